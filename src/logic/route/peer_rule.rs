//! Which other nodes may have a service's requests, and which of many are asked.

/// Most other nodes that a service's requests are spread over. More would help no overflow of one gateway, and each keeps
/// connections.
const MOST_PEERS: usize = 32;

/// How far a service's requests may travel among the nodes of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerRule {
    /// What the service speaks; a service of the same name that speaks something else is another one.
    pub protocol: String,
    /// The site that this node stands at; none where nobody said.
    pub own_site: Option<String>,
    /// They may not leave this node's site, as its operator calls it.
    pub same_site: bool,
    /// The only regions that they may go to; empty for all.
    pub residency: Vec<String>,
}

/// Another node, as far as the rule looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its id.
    pub node: &'a str,
    /// What its service of that name speaks.
    pub protocol: &'a str,
    /// Where it stands, as its operator calls it.
    pub site: Option<&'a str>,
    /// The region that it is in.
    pub region: Option<&'a str>,
}

impl PeerRule {
    /// Whether requests may go there. Where nobody said where a node is, it is nowhere that a rule allows.
    #[must_use]
    pub fn allows(&self, candidate: &Candidate<'_>) -> bool {
        let stays = !self.same_site || self.is_near(candidate);
        let resides = self.residency.is_empty()
            || candidate.region.is_some_and(|region| self.residency.iter().any(|allowed| allowed == region));
        candidate.protocol == self.protocol && stays && resides
    }

    fn is_near(&self, candidate: &Candidate<'_>) -> bool {
        self.own_site.is_some() && self.own_site.as_deref() == candidate.site
    }

    /// Those that are asked, of all that are allowed: the nearest, and of them not the same for each node of the fleet, so
    /// that a large fleet's overflow does not meet at a few (rendezvous hashing, Thaler and Ravishankar 1998).
    pub fn choose<T>(&self, own: &str, mut all: Vec<T>, candidate: impl for<'a> Fn(&'a T) -> Candidate<'a>) -> Vec<T> {
        all.retain(|one| self.allows(&candidate(one)));
        all.sort_by_cached_key(|one| {
            let candidate = candidate(one);
            (!self.is_near(&candidate), hash(own, candidate.node), candidate.node.to_owned())
        });
        all.truncate(MOST_PEERS);
        all
    }
}

/// FNV-1a of both names (Fowler, Noll and Vo), with a byte between them that is in none.
fn hash(own: &str, other: &str) -> u64 {
    let bytes = own.bytes().chain([0]).chain(other.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANYWHERE: Candidate<'_> = Candidate { node: "b", protocol: "oip-v2", site: None, region: None };

    fn rule() -> PeerRule {
        PeerRule { protocol: "oip-v2".into(), ..PeerRule::default() }
    }

    #[test]
    fn a_service_that_speaks_something_else_is_another_one() {
        assert!(rule().allows(&ANYWHERE));
        assert!(!rule().allows(&Candidate { protocol: "http", ..ANYWHERE }));
    }

    #[test]
    fn site_and_residency_hold_and_who_says_nothing_is_nowhere() {
        let here = PeerRule { own_site: Some("hall-3".into()), same_site: true, ..rule() };
        assert!(here.allows(&Candidate { site: Some("hall-3"), ..ANYWHERE }));
        assert!(!here.allows(&Candidate { site: Some("hall-4"), ..ANYWHERE }) && !here.allows(&ANYWHERE));
        let nameless = PeerRule { own_site: None, ..here };
        assert!(!nameless.allows(&ANYWHERE), "two nodes of which nobody said where they are share no site");
        let resident = PeerRule { residency: vec!["eu-central".into()], ..rule() };
        assert!(resident.allows(&Candidate { region: Some("eu-central"), ..ANYWHERE }));
        assert!(!resident.allows(&Candidate { region: Some("us-east"), ..ANYWHERE }) && !resident.allows(&ANYWHERE));
    }

    #[test]
    fn the_nearest_are_asked_first_and_not_the_same_by_everybody() {
        let rule = PeerRule { own_site: Some("hall-3".into()), ..rule() };
        let all: Vec<(String, Option<&str>)> =
            (0..100).map(|n| (format!("node-{n}"), (n % 20 == 0).then_some("hall-3"))).collect();
        let chosen =
            |own: &str| rule.choose(own, all.clone(), |(node, site)| Candidate { node, site: *site, ..ANYWHERE });
        let (one, other) = (chosen("a"), chosen("z"));
        assert_eq!(one.len(), MOST_PEERS);
        assert!(one[..5].iter().all(|(_, site)| site.is_some()), "{one:?}");
        assert_ne!(one[5..], other[5..]);
        let mut reversed = all.clone();
        reversed.reverse();
        let again = rule.choose("a", reversed, |(node, site)| Candidate { node, site: *site, ..ANYWHERE });
        assert_eq!(one, again, "the order in which they were heard does not matter");
    }
}
