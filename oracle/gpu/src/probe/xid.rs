//! Xid errors: the driver tells of them when they happen, so somebody has to listen all the time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use datagalax_protocol::inspection::{MAX_EVENTS, Xid};
use nvml_wrapper::Nvml;

/// How long one round over all cards listens: the longest that dropping the watch may take.
const ROUND: Duration = Duration::from_millis(500);

/// The latest errors of each card, by UUID.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<HashMap<String, Vec<Xid>>>);

impl Log {
    /// Notes an error; the oldest beyond [`MAX_EVENTS`] goes.
    pub(super) fn note(&self, uuid: &str, xid: Xid) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let events = log.entry(uuid.to_owned()).or_default();
        if events.len() >= MAX_EVENTS {
            events.remove(0);
        }
        events.push(xid);
    }

    /// The errors of one card, the latest last.
    pub(super) fn of(&self, uuid: &str) -> Vec<Xid> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uuid).cloned().unwrap_or_default()
    }
}

/// Listens until it is dropped.
pub(super) struct Watch {
    log: Arc<Log>,
    ends: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Watch {
    /// Listens to these cards. Cards whose driver tells of no events have none.
    pub(super) fn start(nvml: Arc<Nvml>, uuids: Vec<String>) -> Self {
        let (log, ends) = (Arc::<Log>::default(), Arc::<AtomicBool>::default());
        let listener = {
            let (log, ends) = (log.clone(), ends.clone());
            thread::Builder::new().name("xid".into()).spawn(move || listen(&nvml, &uuids, &log, &ends))
        };
        let listener = listener.inspect_err(|error| tracing::warn!(%error, "Xid errors are not watched")).ok();
        Self { log, ends, listener }
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            // It has nothing to say when it ends; a panic in it was printed.
            drop(listener.join());
        }
    }
}

#[cfg(target_os = "linux")]
fn listen(nvml: &Nvml, uuids: &[String], log: &Log, ends: &AtomicBool) {
    use nvml_wrapper::{bitmasks::event::EventTypes, enums::event::XidError, error::NvmlError};

    // A set for each card: an event of a lost card cannot be asked for its UUID any more.
    let sets: Vec<_> = uuids
        .iter()
        .filter_map(|uuid| {
            let device = nvml.device_by_uuid(uuid.as_str()).ok()?;
            let set = nvml.create_event_set().ok()?;
            let set = device.register_events(EventTypes::CRITICAL_XID_ERROR, set).ok()?;
            Some((uuid, set))
        })
        .collect();
    let wait = (ROUND.as_millis() as u32 / sets.len().max(1) as u32).max(1);
    while !ends.load(Ordering::Relaxed) && !sets.is_empty() {
        for (uuid, set) in &sets {
            match set.wait(wait) {
                Ok(event) => {
                    if let Some(XidError::Value(code)) = event.event_data {
                        tracing::error!(uuid, code, "the driver reports an Xid error");
                        log.note(uuid, Xid { code, seen_at: unix_now() });
                    }
                }
                Err(NvmlError::Timeout) => {}
                // A set that fails at once must not make this a busy loop.
                Err(_) => thread::sleep(Duration::from_millis(u64::from(wait))),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn listen(_nvml: &Nvml, _uuids: &[String], _log: &Log, _ends: &AtomicBool) {}

fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept() {
        let log = Log::default();
        for code in 0..40 {
            log.note("GPU-a", Xid { code, seen_at: 7 });
        }
        let kept: Vec<_> = log.of("GPU-a").iter().map(|xid| xid.code).collect();
        assert_eq!(kept, (24..40).collect::<Vec<_>>());
        assert!(log.of("GPU-b").is_empty());
    }
}
