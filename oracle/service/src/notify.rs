//! What systemd is told (`Type=notify`): ready, stopping, and that the daemon lives. Without `NOTIFY_SOCKET`, nothing.

use std::{
    env,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::time;

use crate::health::{Health, START};

/// How often the daemon's state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for a manager that is busy when this process stops.
const STOPPING: Duration = Duration::from_millis(250);

/// The way to the service manager.
pub(crate) struct Manager {
    socket: UnixDatagram,
    /// Half of what it waits for a sign of life.
    beat: Option<Duration>,
}

impl Manager {
    /// The service manager that started this process, if it asked to be told.
    ///
    /// # Errors
    /// It asked, but cannot be reached.
    pub(crate) fn of_environment() -> Result<Option<Self>> {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
        let shown = address.display().to_string();
        let connect = || {
            let address = match address.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
                _ => SocketAddr::from_pathname(&address)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket = connect().with_context(|| format!("cannot reach the service manager at NOTIFY_SOCKET={shown}"))?;
        let micros = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        Ok(Some(Self { socket, beat: micros.map(|micros| Duration::from_micros(micros) / 2) }))
    }

    /// Tells of being ready once started, of each change of what is in the way, and of life, for ever.
    pub(crate) async fn tell(&self, health: &Health) {
        let every = self.beat.map_or(LOOK_EVERY, |beat| beat.min(LOOK_EVERY));
        let mut told = None;
        let mut ready = false;
        loop {
            let topics = health.topics();
            // What a busy manager did not take is told again: without READY it takes the start for failed.
            if !ready && !topics.contains_key(START) {
                ready = self.send("READY=1");
            }
            let reasons = health.reasons().join("; ");
            if told.as_ref() != Some(&reasons)
                && self.send(&format!("STATUS={}", if reasons.is_empty() { "working" } else { &reasons }))
            {
                told = Some(reasons);
            }
            if self.beat.is_some() && health.hanging().is_empty() {
                self.send("WATCHDOG=1");
            }
            time::sleep(every).await;
        }
    }

    /// Tells of stopping, which is told once: a busy manager is waited for, a moment.
    pub(crate) fn stopping(&self) {
        let patient = self.socket.set_nonblocking(false).and_then(|()| self.socket.set_write_timeout(Some(STOPPING)));
        if let Err(error) = patient {
            tracing::debug!(%error, "the service manager will not be waited for");
        }
        self.send("STOPPING=1");
    }

    /// One line each; says whether it was taken. A manager that does not listen is its own trouble.
    fn send(&self, state: &str) -> bool {
        let sent = self.socket.send(state.replace('\n', " ").as_bytes());
        if let Err(error) = &sent {
            tracing::debug!(%error, "the service manager was not told");
        }
        sent.is_ok()
    }
}
