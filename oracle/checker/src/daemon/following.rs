//! Slots and beacons as they come, and whether they are final.

use std::time::Duration;

use datagalax_gpu::beacon::Slot;
use tokio::time;

use super::Daemon;
use crate::{
    beacons::Beacon,
    chain::{Finality, Slots},
};

/// Pause between two looks at whether beacons are final.
const FINALITY_EVERY: Duration = Duration::from_millis(700);

impl Daemon {
    pub(super) async fn follow_slots(&self) {
        loop {
            match self.chain.slots().await {
                Ok(news) => {
                    self.health.set("slots", None);
                    match news {
                        Slots::New(slots) => self.state().beacons.observe(&slots),
                        Slots::Missed => {
                            self.metrics.slot_gaps.inc();
                            tracing::warn!("slots passed unseen; a beacon may have been among them");
                            self.state().beacons.missed();
                        }
                        Slots::Dropped(number) => {
                            tracing::warn!(slot = number, "slots were dropped by the cluster");
                            self.state().beacons.dropped(number);
                        }
                    }
                    self.tell_beacons().await;
                }
                Err(error) => {
                    self.health.set("slots", Some(error.to_string()));
                    tracing::warn!(%error, "cannot follow slots; trying again");
                    time::sleep(self.options.poll).await;
                }
            }
        }
    }

    /// Tells the blocks being measured of new beacons, and the disk.
    pub(super) async fn tell_beacons(&self) {
        let (epoch, new) = {
            let state = &mut *self.state();
            let Some(epoch) = state.epoch else { return };
            let found = state.beacons.of(epoch.number);
            let new: Vec<Beacon> = found
                .iter()
                .filter(|beacon| !state.noted.contains(&(beacon.slot.number, beacon.slot.hash)))
                .copied()
                .collect();
            state.noted.extend(new.iter().map(|beacon| (beacon.slot.number, beacon.slot.hash)));
            (epoch, new)
        };
        if new.is_empty() {
            return;
        }
        // First those who wait for it, then the disk.
        self.news.send_modify(|version| *version += 1);
        for Beacon { slot, seen, certain } in new {
            let Slot { number, time, .. } = slot;
            tracing::info!(epoch = epoch.number, slot = number, time, in_time = seen.is_some(), certain, "beacon");
            if let Err(error) = self.store.note_beacon(epoch, slot).await {
                tracing::error!(%error, "a beacon cannot be noted");
            }
        }
    }

    /// Finds out which beacons are final, soon after they are: the cluster keeps hashes for some minutes only.
    pub(super) async fn settle_beacons(&self) {
        loop {
            let open: Vec<Slot> = {
                let state = self.state();
                let found = state.epoch.map_or(&[][..], |epoch| state.beacons.of(epoch.number));
                let unsettled = |slot: &Slot| !state.settled.contains_key(&(slot.number, slot.hash));
                found.iter().map(|beacon| beacon.slot).filter(unsettled).collect()
            };
            for slot in open {
                match self.chain.finality(slot).await {
                    Ok(Finality::Open) => {}
                    Ok(finality) => {
                        if finality == Finality::Dropped {
                            tracing::warn!(
                                slot = slot.number,
                                "a beacon's slot is not part of the chain; it does not count"
                            );
                        }
                        self.state().settled.insert((slot.number, slot.hash), finality);
                        self.news.send_modify(|version| *version += 1);
                    }
                    Err(error) => tracing::debug!(slot = slot.number, %error, "cannot tell whether a beacon is final"),
                }
            }
            time::sleep(FINALITY_EVERY).await;
        }
    }
}
