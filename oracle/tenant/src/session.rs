//! The session's token, and its renewal.

use std::time::Duration;

use datagalax_protocol::lease::{LONGEST_SESSION, SessionAnswer, SessionRequest, Token, path};
use tokio::{
    task::AbortHandle,
    time::{self, Instant},
};

use crate::{Tenant, TenantError, host::answers};

/// A session is asked for so long.
const LENGTH: Duration = Duration::from_secs(LONGEST_SESSION as u64);
/// With so little left of a session another is asked for.
const RENEW: Duration = Duration::from_secs(LONGEST_SESSION as u64 / 2);
/// With less than this left a session is not used any more.
const LAST: Duration = Duration::from_secs(10);
/// How often the session is looked at while a stream is open.
const LOOK: Duration = Duration::from_secs(300);

/// A session, by this side's clock.
#[derive(Clone, Copy)]
pub(crate) struct Session {
    token: Token,
    until: Instant,
}

impl Tenant {
    /// The token of a session that lasts for a while.
    pub(crate) async fn token(&self) -> Result<Token, TenantError> {
        let mut session = self.0.session.lock().await;
        let left = |session: &Session| session.until.saturating_duration_since(Instant::now());
        if let Some(known) = session.as_ref().filter(|session| left(session) > RENEW) {
            return Ok(known.token);
        }
        // Counted from the asking: it ends no later at the host.
        let until = Instant::now() + LENGTH;
        let question = SessionRequest { lease: self.0.lease.to_bytes(), seconds: LONGEST_SESSION };
        match self.exchange::<_, SessionAnswer>(path::SESSION, &question).await {
            Ok((asked, answer)) => {
                answers(answer.request, asked)?;
                Ok(session.insert(Session { token: answer.token, until }).token)
            }
            Err(error) => match session.as_ref().filter(|session| left(session) > LAST) {
                Some(known) if error.is_passing() => Ok(known.token),
                _ => Err(error),
            },
        }
    }

    /// The host does not know this token any more.
    pub(crate) async fn forget(&self, token: Token) {
        let mut session = self.0.session.lock().await;
        if session.as_ref().is_some_and(|session| session.token == token) {
            *session = None;
        }
    }

    /// Keeps a session alive: streams end with the last one.
    pub(crate) fn keep_alive(&self) -> Task {
        let tenant = self.clone();
        Task::spawn(async move {
            loop {
                time::sleep(LOOK).await;
                if let Err(error) = tenant.token().await {
                    tracing::debug!(%error, "the session is not renewed");
                }
            }
        })
    }
}

/// A task that ends with what it was spawned for.
pub(crate) struct Task(AbortHandle);

impl Task {
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
