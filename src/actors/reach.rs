//! From how a provider says that an instance is reached to how the node speaks with it.

use cloud_adapters::Reach;

use crate::logic::route::{PublicKeyPin, Transport};

/// Where an instance is and how the way there is secured. `pin` is the one of the instance's launch.
#[must_use]
pub fn way(reach: &Reach, pin: PublicKeyPin) -> (String, Transport) {
    let transport = match reach {
        // On this machine, or through a tunnel that is encrypted itself.
        Reach::Loopback { .. } | Reach::Tunnel { .. } => Transport::Plain,
        Reach::Direct { .. } => Transport::Pinned(pin),
        Reach::Ingress { .. } => Transport::Named,
    };
    (reach.authority().to_owned(), transport)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_machine_outside_a_tunnel_is_encrypted() {
        let (pin, authority) = (PublicKeyPin([3; 32]), || "h:1".to_owned());
        let cases = [
            (Reach::Loopback { authority: authority() }, Transport::Plain),
            (Reach::Tunnel { authority: authority() }, Transport::Plain),
            (Reach::Direct { authority: authority() }, Transport::Pinned(pin)),
            (Reach::Ingress { authority: authority() }, Transport::Named),
        ];
        for (reach, transport) in cases {
            assert_eq!(way(&reach, pin), (authority(), transport));
        }
    }
}
