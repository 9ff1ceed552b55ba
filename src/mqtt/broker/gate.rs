//! What `mqtt5` asks of whoever lets clients in: for one connection through the door, and for those of the box itself.

use std::future::{Future, ready};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mqtt5::broker::{AuthProvider, AuthResult, DynamicStorage, StorageBackend};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;

use super::door::{Guest, Refusal, Shared, refused};
use super::room::Place;

/// Before a wrong password is answered: a person does not mind, a program that guesses does.
const WRONG_PAUSE: Duration = Duration::from_secs(1);

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Decides for one connection. Who is behind it was proven before it could say a word, or is by the password in its CONNECT;
/// the name that `mqtt5` keeps for it is the one that is given here.
pub(super) struct Gate {
    shared: Arc<Shared>,
    number: u64,
    from: SocketAddr,
    /// By its certificate.
    shown: Option<Arc<dyn Guest>>,
    /// Until it is let in: its place in the line, and the handle by which it can be cut then.
    waiting: Mutex<Option<(Place, TcpStream)>>,
    /// Once it is let in.
    guest: OnceLock<Arc<dyn Guest>>,
    /// Whether its connection was cut, since it may not be here any more: all that the broker says on it from then on is its Last
    /// Will.
    is_cut: Arc<AtomicBool>,
}

impl Gate {
    pub(super) fn new(
        shared: Arc<Shared>,
        number: u64,
        from: SocketAddr,
        shown: Option<Arc<dyn Guest>>,
        waiting: (Place, TcpStream),
    ) -> Self {
        Self {
            shared,
            number,
            from,
            shown,
            waiting: Mutex::new(Some(waiting)),
            guest: OnceLock::new(),
            is_cut: Arc::default(),
        }
    }

    async fn let_in(&self, connect: &ConnectPacket) -> Result<String, (ReasonCode, &'static str)> {
        let guest = match &self.shown {
            Some(guest) => guest.clone(),
            None => self.by_password(connect).await?,
        };
        if !guest.is_welcome() {
            return Err((ReasonCode::NotAuthorized, "put_out"));
        }
        if !guest.may_be(&connect.client_id) || self.is_anothers(&guest, &connect.client_id).await {
            return Err((ReasonCode::ClientIdentifierNotValid, "client_id"));
        }
        if connect.will.as_ref().is_some_and(|will| !guest.may_write(&will.topic)) {
            return Err((ReasonCode::NotAuthorized, "last_will"));
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let enter = |socket| self.shared.room.enter(self.number, &guest, socket, self.is_cut.clone());
        let has_entered = waiting.is_some_and(|(_, socket)| enter(socket));
        let name = guest.name().to_owned();
        // A second CONNECT is a breach of the protocol, which the broker answers before it comes here.
        if !has_entered || self.guest.set(guest).is_err() {
            return Err((ReasonCode::ServerBusy, "full"));
        }
        Ok(name)
    }

    async fn by_password(&self, connect: &ConnectPacket) -> Result<Arc<dyn Guest>, (ReasonCode, &'static str)> {
        let (Some(user), Some(password)) = (connect.username.clone(), connect.password.clone()) else {
            return Err((ReasonCode::NotAuthorized, "anonymous"));
        };
        let (doorman, from) = (self.shared.doorman.clone(), self.from);
        let busy = (ReasonCode::ServerBusy, "busy");
        let looked_at = {
            let _one_at_a_time = self.shared.passwords.acquire().await.map_err(|_| busy)?;
            let look = tokio::task::spawn_blocking(move || doorman.by_password(from, &user, &password));
            look.await.map_err(|_| busy)?
        };
        match looked_at {
            Ok(guest) => Ok(guest),
            Err(Refusal::TooMany) => Err((ReasonCode::ServerBusy, "too_many")),
            Err(Refusal::Wrong) => {
                tracing::warn!(from = %self.from, "a wrong user or password at the hub");
                tokio::time::sleep(WRONG_PAUSE).await;
                Err((ReasonCode::BadUsernameOrPassword, "password"))
            }
        }
    }

    /// Whether a client of that id is somebody else, whose connection would end.
    async fn is_anothers(&self, guest: &Arc<dyn Guest>, client_id: &str) -> bool {
        match self.shared.storage.get_session(client_id).await {
            Ok(session) => session.is_some_and(|session| session.user_id.as_deref() != Some(guest.name())),
            Err(_) => true,
        }
    }

    fn guest(&self) -> Option<&Arc<dyn Guest>> {
        self.guest.get()
    }
}

impl AuthProvider for Gate {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _from: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            Ok(match self.let_in(connect).await {
                Ok(name) => AuthResult::success_with_user(name),
                Err((code, why)) => {
                    refused(why);
                    tracing::debug!(from = %self.from, why, "somebody was not let in at the hub");
                    AuthResult::fail(code)
                }
            })
        })
    }

    fn authorize_publish<'a>(&'a self, _: &str, _: Option<&'a str>, topic: &'a str) -> Answer<'a, bool> {
        // That a node which was put out is gone is true, and whoever watches has no other way to see it.
        let is_last_will = |guest: &Arc<dyn Guest>| self.is_cut.load(Ordering::Relaxed) && guest.is_own_state(topic);
        let may =
            self.guest().is_some_and(|guest| guest.may_write(topic) && (guest.is_welcome() || is_last_will(guest)));
        Box::pin(ready(may))
    }

    fn authorize_subscribe<'a>(&'a self, _: &str, _: Option<&'a str>, filter: &'a str) -> Answer<'a, bool> {
        let may = self.guest().is_some_and(|guest| guest.may_read(filter) && guest.is_welcome());
        Box::pin(ready(may))
    }
}

/// Lets in whoever comes from the box itself, and gives them all, also a client id that somebody from elsewhere has taken.
pub(super) struct OwnBox(pub(super) Option<Arc<DynamicStorage>>);

impl OwnBox {
    /// The broker refuses a session of another's name; the box goes first.
    async fn free(&self, client_id: &str) {
        let Some(storage) = &self.0 else { return };
        let is_a_guests = |session: mqtt5::broker::storage::ClientSession| session.user_id.is_some();
        if storage.get_session(client_id).await.is_ok_and(|session| session.is_some_and(is_a_guests)) {
            // Where that fails the client is refused, as it would have been.
            let _ = storage.remove_session(client_id).await;
        }
    }
}

impl AuthProvider for OwnBox {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _from: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            self.free(&connect.client_id).await;
            Ok(AuthResult::success())
        })
    }

    fn authorize_publish<'a>(&'a self, _: &str, _: Option<&'a str>, _: &'a str) -> Answer<'a, bool> {
        Box::pin(ready(true))
    }

    fn authorize_subscribe<'a>(&'a self, _: &str, _: Option<&'a str>, _: &'a str) -> Answer<'a, bool> {
        Box::pin(ready(true))
    }
}
