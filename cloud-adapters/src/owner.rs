//! Whose an instance is: the labels that every provider keeps with it.

/// The labels of an instance's owner.
///
/// An instance belongs to a fleet and a node; the session tells which life of the node launched it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The fleet's id.
    pub fleet: String,
    /// The node's id.
    pub node: String,
    /// The node's session counter at the time of the launch.
    pub session: u64,
}

impl Owner {
    /// Whether both are the same node of the same fleet, in whichever session.
    pub fn is_same_node(&self, other: &Self) -> bool {
        self.fleet == other.fleet && self.node == other.node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(fleet: &str, node: &str, session: u64) -> Owner {
        Owner { fleet: fleet.into(), node: node.into(), session }
    }

    #[test]
    fn a_session_changes_nothing_about_whose_it_is_and_a_fleet_does() {
        assert!(owner("a", "n", 1).is_same_node(&owner("a", "n", 2)));
        assert!(!owner("a", "n", 1).is_same_node(&owner("b", "n", 1)));
        assert!(!owner("a", "n", 1).is_same_node(&owner("a", "m", 1)));
    }
}
