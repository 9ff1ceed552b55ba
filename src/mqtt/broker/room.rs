//! How many there are at the door and behind it: limits of their own, so that those outside take nothing from those inside,
//! no place keeps out the others, and none of them anything from the box.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::door::{Guest, cut, network};

/// Connections that have not said who they are yet; each has ten seconds for its handshake and ten for CONNECT.
const MAX_WAITING: usize = 64;
/// Of one address: the gateways of a site may come from one, when its hub has started again.
const MAX_WAITING_OF_ONE: usize = 32;
/// Guests at once, beside the clients of the box. A node has two connections.
const MAX_INSIDE: usize = 256;
/// Under one name: a user may stand for a team and its dashboards.
const MAX_INSIDE_OF_ONE: usize = 64;

/// Who waits and who is inside.
#[derive(Default)]
pub(super) struct Room {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<IpAddr, usize>,
    inside: BTreeMap<u64, Inside>,
}

struct Inside {
    guest: Arc<dyn Guest>,
    socket: TcpStream,
    is_cut: Arc<AtomicBool>,
}

/// A place among those who wait; given back when dropped.
pub(super) struct Place {
    room: Arc<Room>,
    from: IpAddr,
}

/// Leaves the room when dropped, also in a panic.
pub(super) struct Leaves {
    room: Arc<Room>,
    number: u64,
}

impl Room {
    /// A place for one who has come, if there is one.
    pub(super) fn place(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let from = network(from);
        let mut state = self.state();
        let all: usize = state.waiting.values().sum();
        let of_one = state.waiting.get(&from).copied().unwrap_or_default();
        if all >= MAX_WAITING || of_one >= MAX_WAITING_OF_ONE {
            return None;
        }
        state.waiting.insert(from, of_one + 1);
        Some(Place { room: self.clone(), from })
    }

    /// Lets a guest in, if there is room.
    pub(super) fn enter(
        &self,
        number: u64,
        guest: &Arc<dyn Guest>,
        socket: TcpStream,
        is_cut: Arc<AtomicBool>,
    ) -> bool {
        let mut state = self.state();
        let of_one = state.inside.values().filter(|inside| inside.guest.name() == guest.name()).count();
        if state.inside.len() >= MAX_INSIDE || of_one >= MAX_INSIDE_OF_ONE {
            return false;
        }
        state.inside.insert(number, Inside { guest: guest.clone(), socket, is_cut });
        gauge(state.inside.len());
        true
    }

    /// Notes that a connection has to leave.
    pub(super) fn leaves(self: &Arc<Self>, number: u64) -> Leaves {
        Leaves { room: self.clone(), number }
    }

    /// Cuts off those who may not be here any more, and says who they are.
    pub(super) fn cut_unwelcome(&self) -> Vec<String> {
        let inside: Vec<(u64, Arc<dyn Guest>)> =
            self.state().inside.iter().map(|(number, inside)| (*number, inside.guest.clone())).collect();
        // Asked without the lock, since a file may be read for it.
        let unwelcome = inside.into_iter().filter(|(_, guest)| !guest.is_welcome());
        let cut_off = unwelcome.filter(|(number, _)| match self.state().inside.get(number) {
            Some(inside) => {
                inside.is_cut.store(true, Ordering::Relaxed);
                cut(&inside.socket);
                true
            }
            None => false,
        });
        cut_off.map(|(_, guest)| guest.name().to_owned()).collect()
    }

    /// Cuts off everyone.
    pub(super) fn cut_all(&self) {
        self.state().inside.values().for_each(|inside| cut(&inside.socket));
    }

    /// Waits until nobody is inside.
    pub(super) async fn empty(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().inside.is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.room.state();
        if let Some(waiting) = state.waiting.get_mut(&self.from) {
            *waiting -= 1;
            if *waiting == 0 {
                state.waiting.remove(&self.from);
            }
        }
    }
}

impl Drop for Leaves {
    fn drop(&mut self) {
        let mut state = self.room.state();
        if state.inside.remove(&self.number).is_some() {
            gauge(state.inside.len());
        }
        drop(state);
        self.room.changed.notify_waiters();
    }
}

fn gauge(inside: usize) {
    metrics::gauge!("tidegate_mqtt_guests").set(u32::try_from(inside).map_or(f64::MAX, f64::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str);

    impl Guest for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn may_be(&self, _: &str) -> bool {
            true
        }
        fn is_own_state(&self, _: &str) -> bool {
            false
        }
        fn may_write(&self, _: &str) -> bool {
            true
        }
        fn may_read(&self, _: &str) -> bool {
            true
        }
        fn is_welcome(&self) -> bool {
            self.0 != "put out"
        }
    }

    fn connection() -> TcpStream {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    #[test]
    fn one_address_cannot_take_all_places_and_all_of_them_are_bounded() {
        let room = Arc::new(Room::default());
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        let one: Vec<_> = (0..MAX_WAITING).map_while(|_| room.place(from("10.0.0.1"))).collect();
        assert_eq!(one.len(), MAX_WAITING_OF_ONE);
        let others: Vec<_> = (0..MAX_WAITING).filter_map(|n| room.place(from(&format!("10.0.1.{n}")))).collect();
        assert_eq!(one.len() + others.len(), MAX_WAITING);
        assert!((0..1_000).all(|n| room.place(from(&format!("10.1.{}.{}", n / 250, n % 250))).is_none()));
        assert_eq!(room.state().waiting.len(), 1 + others.len(), "of those who are turned away nothing is kept");
        drop(others);
        assert!(room.place(from("10.0.0.1")).is_none() && room.place(from("10.0.0.2")).is_some());
        drop(one);
        assert!(room.place(from("10.0.0.1")).is_some(), "a place that is given back is there");
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let room = Arc::new(Room::default());
        let places: Vec<_> =
            (0..MAX_WAITING).map_while(|n| room.place(format!("2001:db8::{n:x}").parse().unwrap())).collect();
        assert_eq!(places.len(), MAX_WAITING_OF_ONE);
        assert!(room.place("2001:db8:0:1::1".parse().unwrap()).is_some());
    }

    #[test]
    fn one_name_cannot_fill_the_room() {
        let room = Arc::new(Room::default());
        let (one, other): (Arc<dyn Guest>, Arc<dyn Guest>) = (Arc::new(Named("one")), Arc::new(Named("other")));
        let numbers = 0..MAX_INSIDE_OF_ONE as u64;
        assert!(numbers.clone().all(|number| room.enter(number, &one, connection(), Arc::default())));
        assert!(
            !room.enter(1_000, &one, connection(), Arc::default())
                && room.enter(1_001, &other, connection(), Arc::default())
        );
        drop(room.leaves(0));
        assert!(room.enter(1_000, &one, connection(), Arc::default()));
    }

    #[test]
    fn who_is_put_out_is_cut_off_and_nobody_else() {
        use std::io::Read as _;
        let room = Arc::new(Room::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (near, listener.accept().unwrap().0)
        };
        let ((mut out, out_far), (stays, stays_far)) = (connect(), connect());
        let (put_out, welcome): (Arc<dyn Guest>, Arc<dyn Guest>) = (Arc::new(Named("put out")), Arc::new(Named("in")));
        assert!(room.enter(1, &put_out, out_far, Arc::default()) && room.enter(2, &welcome, stays_far, Arc::default()));
        assert_eq!(room.cut_unwelcome(), ["put out"]);
        assert_eq!(out.read(&mut [0]).unwrap(), 0, "its end is closed");
        stays.set_nonblocking(true).unwrap();
        assert_eq!((&stays).read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
