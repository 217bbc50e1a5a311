//! What a beacon asks of whom, and when beacons can be: what hosts and checkers must derive alike from the chain. Pure.
//!
//! The constants here are a convention of all honest nodes, as binding as the program: a host that computes another workload
//! than its checkers expect has answered nothing. Changing one is a change of the protocol's version.

use std::{num::NonZeroU64, time::Duration};

use datagalax::state::{ClassTerms, Epoch, Network, Row};
use datagalax_protocol::Workload;

use crate::{
    beacon::{Watch, Window},
    capacity::{Demand, PlanError, Schedule},
};

/// Share of a class's memory that a full challenge fills, percent.
pub const SHARE: u8 = 85;
/// How long a device of the class's reference multiplies, at least about.
pub const DURATION: Duration = Duration::from_secs(8);
/// Products of the class `cpu`: some milliseconds of one core.
pub const CPU_PASSES: u16 = 4;
/// What is taken off the time of a GPU's answer.
pub const ALLOWANCE: Duration = Duration::from_secs(1);
/// What is taken off the time of a processor's answer: it shares the machine with everything else, and says nothing about
/// what the machine is worth.
pub const CPU_ALLOWANCE: Duration = Duration::from_secs(4);
/// How long a slot takes, about.
const SLOT: Duration = Duration::from_millis(400);
/// Slots until one is final.
const FINAL_AFTER: u32 = 32;
/// Waiting for finality takes at most this part of an epoch, so that epochs of seconds (local networks) have beacons.
const FINALITY_PART: u32 = 8;
/// Waiting for answers takes at most this part of an epoch, for the same reason.
const ANSWER_PART: u32 = 4;

/// What a beacon asks of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// How much to compute.
    pub workload: Workload,
    /// How long that may take.
    pub schedule: Schedule,
    /// Operations per second of the whole container that are 100 percent.
    pub reference: u64,
}

impl Ask {
    /// What is asked of a container of a class, of so many units, in an epoch that a lease touches or not ([`is_leased`]).
    ///
    /// A class without memory is one of processors (`cpu`): a small workload on all the machine as one device, and the same
    /// when leased. A leased GPU gets [`Demand::light`].
    ///
    /// # Errors
    /// The class or the number of units is one that no challenge can be planned for; then nobody can be measured in it.
    pub fn of(terms: &ClassTerms, gpus: u8, leased: bool) -> Result<Self, PlanError> {
        let reference = terms.reference_throughput.saturating_mul(u64::from(gpus));
        if terms.minimum_vram == 0 {
            let workload = Demand::cpu(CPU_PASSES)?;
            let schedule = Schedule::of(&workload, reference, CPU_ALLOWANCE);
            // A tenant's own work goes first: any answer in time is a full one.
            let allowance = if leased { schedule.deadline } else { schedule.allowance };
            return Ok(Self { workload, schedule: Schedule { allowance, ..schedule }, reference });
        }
        let devices = u16::from(gpus);
        if leased {
            return Ok(Self { workload: Demand::light(devices)?, schedule: Schedule::LIGHT, reference });
        }
        let (memory, throughput) = (terms.minimum_vram, terms.reference_throughput);
        let demand = Demand { memory, share: SHARE, reference: throughput, devices, duration: DURATION };
        let workload = demand.workload()?;
        Ok(Self { workload, schedule: Schedule::of(&workload, throughput, ALLOWANCE), reference })
    }
}

/// Whether a row counts as leased in an epoch: a lease that was started touches it, as the program's tally sees it.
///
/// A lease that starts in the epoch changes this from one instant to the next, so a checker that gets the other workload
/// reads the row once more before it judges.
pub fn is_leased(row: &Row, epoch: u32) -> bool {
    row.flags & Row::LEASED != 0 && row.cap_of(epoch).is_some()
}

/// When beacons of an epoch can be. `classes` are all of the network's; `epoch` must be drawn, for its draw slot to be final.
///
/// Answers may take as long as the slowest class that containers can be registered in, but a quarter of the epoch at most;
/// finality takes 32 slots of 400 ms, but an eighth of the epoch at most.
pub fn window<'a>(network: &Network, epoch: &Epoch, classes: impl IntoIterator<Item = &'a ClassTerms>) -> Window {
    let grid = network.grid_of(epoch.number);
    let (start, end) = network.bounds(epoch.number);
    let deadline = |terms: &ClassTerms, leased| Ask::of(terms, 1, leased).map(|ask| ask.schedule.deadline).ok();
    let active = classes.into_iter().filter(|terms| terms.active == 1);
    let longest = active.flat_map(|terms| [false, true].map(|leased| deadline(terms, leased))).flatten().max();
    let length = Duration::from_secs(u64::from(grid.length));
    Window {
        draw_slot: epoch.draw_slot,
        end,
        length: end.saturating_sub(start),
        commit_lead: i64::from(grid.commit_lead),
        answer: longest.unwrap_or_default().min(length / ANSWER_PART),
        finality: (SLOT * FINAL_AFTER).min(length / FINALITY_PART),
    }
}

/// Finds the beacons of a drawn epoch: [`window`] with the network's modulus.
pub fn watch<'a>(network: &Network, epoch: &Epoch, classes: impl IntoIterator<Item = &'a ClassTerms>) -> Watch {
    // The program refuses a modulus of zero.
    let modulus = NonZeroU64::new(u64::from(network.parameters.beacon_modulus)).unwrap_or(NonZeroU64::MIN);
    Watch::new(window(network, epoch, classes), modulus)
}

#[cfg(test)]
mod tests {
    use datagalax::state::Grid;
    use proptest::prelude::*;

    use super::*;
    use crate::{backend::filled_memory, capacity::Limits};

    const GIB: u64 = 1 << 30;

    fn class(minimum_vram: u64, reference_throughput: u64) -> ClassTerms {
        ClassTerms { minimum_vram, reference_throughput, active: 1, ..ClassTerms::default() }
    }

    /// A network whose epochs have this length, and its epoch 3.
    fn chain(length: u32) -> (Network, Epoch) {
        let mut network: Network = bytemuck::Zeroable::zeroed();
        network.grids[0] = Grid { start: 1_000, first_epoch: 0, length, reveal_window: length / 3, commit_lead: length / 6 };
        network.parameters.beacon_modulus = 16;
        let mut epoch: Epoch = bytemuck::Zeroable::zeroed();
        (epoch.number, epoch.draw_slot) = (3, 77);
        (network, epoch)
    }

    #[test]
    fn a_card_of_80_gib_is_asked_for_its_memory_and_seconds_of_work() {
        let ask = Ask::of(&class(80 * GIB, 600_000_000_000_000), 8, false).unwrap();
        assert_eq!((ask.workload.devices, ask.reference), (8, 8 * 600_000_000_000_000));
        assert!(filled_memory(&ask.workload.size) > 66 * GIB);
        assert!((8.0..10.0).contains(&ask.schedule.expected.as_secs_f64()));
        assert_eq!(ask.schedule.allowance, ALLOWANCE);
        let leased = Ask::of(&class(80 * GIB, 600_000_000_000_000), 8, true).unwrap();
        assert_eq!((leased.workload, leased.schedule), (Demand::light(8).unwrap(), Schedule::LIGHT));
    }

    #[test]
    fn a_processor_is_one_device_and_can_do_what_is_asked_leased_or_not() {
        let terms = class(0, 10_000_000_000);
        let (idle, leased) = (Ask::of(&terms, 4, false).unwrap(), Ask::of(&terms, 4, true).unwrap());
        assert_eq!((idle.workload, idle.reference), (Demand::cpu(CPU_PASSES).unwrap(), 40_000_000_000));
        assert_eq!((leased.workload, leased.schedule.deadline), (idle.workload, idle.schedule.deadline));
        Limits::CPU.check(&idle.workload).unwrap();
        let percent =
            |ask: &Ask| crate::score::beacon_percent(&ask.workload, ask.schedule.deadline, &ask.schedule, ask.reference);
        assert!(percent(&idle) < 100);
        assert_eq!(percent(&leased), 100, "in time is in time while a tenant works");
    }

    #[test]
    fn a_class_that_no_challenge_fits_is_an_error() {
        assert!(matches!(Ask::of(&class(1, 1), 1, false), Err(PlanError::TooSmall(..))));
        assert!(matches!(Ask::of(&class(80 * GIB, 1), 65, true), Err(PlanError::Malformed(_))));
        assert!(matches!(Ask::of(&class(80 * GIB, 1), 0, true), Err(PlanError::Malformed(_))));
    }

    #[test]
    fn the_slowest_active_class_sets_the_time_for_answers() {
        let (network, epoch) = chain(3_600);
        let card = class(80 * GIB, 600_000_000_000_000);
        let slow = ClassTerms { active: 0, ..class(80 * GIB, 1) };
        let of = |classes: &[ClassTerms]| window(&network, &epoch, classes);
        assert_eq!(of(&[]).answer, Duration::ZERO);
        assert_eq!(of(&[card, slow]).answer, Schedule::LIGHT.deadline, "the inactive one does not count");
        let cpu = of(&[class(0, u64::MAX)]);
        assert_eq!((cpu.answer, cpu.finality), (CPU_ALLOWANCE, Duration::from_millis(12_800)));
        assert_eq!((cpu.draw_slot, cpu.end, cpu.length, cpu.commit_lead), (77, 1_000 + 4 * 3_600, 3_600, 600));
    }

    #[test]
    fn a_lease_counts_in_the_epochs_it_touches() {
        let mut row = Row::checking(1, 0, 100, 1, 0);
        assert!(!is_leased(&row, 5));
        row.note_lease(5, 10, 10);
        row.end_lease(7, 5_000);
        row.flags |= Row::LEASED;
        assert_eq!([4, 5, 6, 7, 8].map(|epoch| is_leased(&row, epoch)), [false, true, true, true, false]);
    }

    proptest! {
        // Whatever the classes: there is time left for beacons in every epoch, after it began and before its commits.
        #[test]
        fn every_epoch_has_time_for_beacons(length in 20u32..86_400, vram: u64, reference: u64) {
            let (network, epoch) = chain(length);
            let found = window(&network, &epoch, &[class(vram, reference), class(0, reference)]);
            let (start, end) = network.bounds(epoch.number);
            prop_assert!(found.latest() < end - found.commit_lead);
            // Draws are done in the first quarter, or the epoch is void.
            prop_assert!(found.fallback_from() >= start + i64::from(length / 4), "{:?}", found);
        }

        #[test]
        fn what_is_asked_is_always_sound(vram: u64, reference: u64, gpus: u8, leased: bool) {
            if let Ok(ask) = Ask::of(&class(vram, reference), gpus, leased) {
                prop_assert!(ask.workload.check().is_ok());
                prop_assert!((1..=datagalax_protocol::beacon::MAX_DEADLINE_MS).contains(&ask.schedule.deadline_ms()));
                prop_assert_eq!(Ask::of(&class(vram, reference), gpus, leased), Ok(ask), "the same for everybody");
            }
        }
    }
}
