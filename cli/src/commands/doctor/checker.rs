//! What a checker needs: tickets with a good record, seats, a place for its state, fees, a port for its evidence.

use std::mem::offset_of;

use datagalax::{
    committee::positions,
    constants::{MARKS_TO_RETIRE, MIN_TICKETS_TO_RETIRE, NONE},
    state::{Checker, Epoch, Network, Ticket},
};
use datagalax_client::{Address, CheckerSet, ReadError, amount::Ath};
use tokio::join;

use super::{
    Doctor, OnChain, connect,
    host::{self, SIGNATURE},
};
use crate::{
    context::some,
    finding::{Finding, Reading, bounded},
};

/// Marks from which a ticket is in danger.
const MARKS_TO_WORRY: u32 = MARKS_TO_RETIRE / 2;
/// Marks from which a bad day is the end.
const MARKS_TO_ACT: u32 = MARKS_TO_RETIRE - 4;
/// Bytes of evidence of one container in one epoch, about: eight probes, four beacons and an inspection.
const EVIDENCE: u64 = 24 << 10;
/// Days that evidence is kept for.
const KEPT: u64 = 30;

/// What was read.
struct Readings {
    checker: Reading<Option<Box<Checker>>>,
    set: Reading<CheckerSet>,
    epoch: Reading<Option<Box<Epoch>>>,
}

/// Looks.
pub async fn look(doctor: &Doctor, on: &OnChain<'_>) -> Vec<Finding> {
    let reader = &on.context.reader;
    let epoch = async {
        match some(on.network.current_epoch) {
            Some(number) => reader.epoch(number).await.map(Some),
            None => Ok(None),
        }
    };
    let evidence = async {
        match &doctor.evidence {
            Some(address) => Some((address.clone(), connect(address).await)),
            None => None,
        }
    };
    let (checker, set, epoch, evidence) =
        join!(bounded(find(doctor, on)), bounded(reader.checker_set()), bounded(epoch), evidence);
    let mut findings = check(&Readings { checker, set, epoch }, doctor, on);
    findings.push(served(evidence.as_ref()));
    findings
}

/// The checker named, or the first of this operator's.
async fn find(doctor: &Doctor, on: &OnChain<'_>) -> Result<Option<Box<Checker>>, ReadError> {
    let reader = &on.context.reader;
    if let Some(id) = doctor.checker_id {
        return match reader.checker(id).await {
            Ok(checker) => Ok(Some(checker)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        };
    }
    let mine = reader.matching::<Checker>(&[(offset_of!(Checker, operator), on.key.as_ref())]).await?;
    Ok(mine.into_iter().map(|(_, checker)| checker).min_by_key(|checker| checker.id))
}

fn check(read: &Readings, doctor: &Doctor, on: &OnChain<'_>) -> Vec<Finding> {
    let id = "checker.registered";
    let checker = match &read.checker {
        Ok(Some(checker)) => checker,
        Ok(None) => {
            let found = match doctor.checker_id {
                Some(id) => format!("there is no checker {id}"),
                None => format!("no checker has the operator {}", on.key),
            };
            return vec![Finding::failed(
                id,
                found,
                "register one with `datagalax checker register --operator <KEY>` (--keypair is its owner)",
            )];
        }
        Err(why) => return vec![Finding::skipped(id, why, "mend rpc.answers first")],
    };
    let mut findings = vec![Finding::ok(id, format!("checker {}", checker.id)), operator(checker, on.key)];
    let mut seats = 0;
    match &read.set {
        Ok(set) => {
            let mine: Vec<&Ticket> =
                set.slots_of(checker.id).iter().filter_map(|slot| set.tickets.get(*slot as usize)).collect();
            findings.push(tickets(checker, &mine));
            findings.push(record(&mine, set.header.live));
            let found = read
                .epoch
                .as_ref()
                .ok()
                .and_then(Option::as_ref)
                .map(|epoch| seats_of(set, epoch, on.network.blocks, checker.id));
            seats = found.unwrap_or(0);
            findings.push(seated(&read.epoch, seats));
            findings.push(unclaimed(checker, &mine, seats, read.epoch.as_ref().ok().and_then(Option::as_deref)));
        }
        Err(why) => findings.push(Finding::skipped("checker.tickets", why, "mend rpc.answers first")),
    }
    findings.push(host::balance(on.host, fees(on.network, seats), doctor.days));
    findings.push(host::state(&on.host.disk));
    findings.push(host::space(&on.host.disk, evidence(on.network, seats)));
    findings
}

/// `checker.operator_key`.
fn operator(checker: &Checker, key: &Address) -> Finding {
    let id = "checker.operator_key";
    if checker.operator == *key {
        return Finding::ok(id, "the registered one");
    }
    let found = format!("--keypair is {key}, registered is {}", checker.operator);
    let advice =
        format!("use the registered key, or replace it with `datagalax checker rotate {} --operator {key}`", checker.id);
    Finding::failed(id, found, advice)
}

/// `checker.tickets`: how many take seats.
fn tickets(checker: &Checker, mine: &[&Ticket]) -> Finding {
    let id = "checker.tickets";
    let count = |status: u8| mine.iter().filter(|ticket| ticket.status == status).count();
    let (live, waiting, retiring) =
        (count(Ticket::LIVE), count(Ticket::WAITING), count(Ticket::RETIRING) + count(Ticket::RETIRED));
    let found = format!("{live} in the order, {waiting} waiting, {} leaving, {retiring} retired", count(Ticket::LEAVING));
    let more = format!("stake for more with `datagalax checker tickets {} <COUNT>`", checker.id);
    match (live, waiting) {
        (0, 0) => Finding::failed(id, found, more),
        (0, _) => Finding::warning(id, found, "they enter at an epoch's start, 32 tickets of all checkers at a time: wait"),
        _ if retiring > 0 => {
            Finding::warning(id, found, format!("find out why they were marked (checker.record), then {more}"))
        }
        _ => Finding::ok(id, found),
    }
}

/// `checker.record`: the worst ticket's marks, and how far it is from being retired.
fn record(mine: &[&Ticket], all: u32) -> Finding {
    let id = "checker.record";
    let kept = mine.iter().filter(|ticket| ticket.is_seated() || ticket.status == Ticket::WAITING);
    let Some(worst) = kept.map(|ticket| ticket.record.count_ones()).max() else {
        return Finding::skipped(id, "no ticket is in the order", "see checker.tickets");
    };
    let left = MARKS_TO_RETIRE.saturating_sub(worst);
    let small = if all < MIN_TICKETS_TO_RETIRE { ", though nobody is below 8 tickets in all" } else { "" };
    let found = format!("{worst} marked epochs of 64; {left} more retire the ticket{small}");
    let advice = "look why in the checker's log and metrics: it missed commits or reveals, or its values differ from the other seats'; \
                  compare an epoch with `datagalax epoch report <NUMBER>`";
    match worst {
        ..MARKS_TO_WORRY => Finding::ok(id, found),
        MARKS_TO_WORRY..MARKS_TO_ACT => Finding::warning(id, found, advice),
        _ => Finding::failed(id, found, advice),
    }
}

/// Seats that the draw gives a checker.
fn seats_of(set: &CheckerSet, epoch: &Epoch, blocks: u32, checker: u32) -> u64 {
    if epoch.status != Epoch::DRAWN {
        return 0;
    }
    let holds = |position: u32| {
        let slot = set.tickets.get(position as usize).map(|ticket| ticket.order);
        slot.and_then(|slot| set.tickets.get(slot as usize)).is_some_and(|ticket| ticket.checker == checker)
    };
    let of =
        |block: u32| positions(&epoch.seed, block, epoch.tickets).into_iter().filter(|p| *p != NONE && holds(*p)).count();
    (0..blocks).map(|block| of(block) as u64).sum()
}

/// `checker.seats` in the present epoch.
fn seated(epoch: &Reading<Option<Box<Epoch>>>, seats: u64) -> Finding {
    let id = "checker.seats";
    match epoch {
        Ok(Some(epoch)) if epoch.status == Epoch::DRAWN => Finding::ok(id, format!("{seats} in epoch {}", epoch.number)),
        Ok(Some(epoch)) => Finding::ok(id, format!("epoch {} is not drawn yet", epoch.number)),
        Ok(None) => Finding::skipped(id, "no epoch has begun", "see network.advances"),
        Err(why) => Finding::skipped(id, why, "mend rpc.answers first"),
    }
}

/// `checker.unclaimed`: pay that waits; a daemon claims by itself, so much of it is a sign.
fn unclaimed(checker: &Checker, mine: &[&Ticket], seats: u64, epoch: Option<&Epoch>) -> Finding {
    let id = "checker.unclaimed";
    let waits = mine.iter().map(|ticket| ticket.accrued).fold(0, u64::saturating_add);
    let found = format!("{} ATH wait, {} ATH claimed so far", Ath(waits), Ath(checker.claimed));
    let a_day = epoch.map_or(0, |epoch| epoch.seat_pay.saturating_mul(seats.max(1)).saturating_mul(24));
    if waits > a_day && waits > 0 {
        return Finding::warning(id, found, "claim it with `datagalax claim` (--keypair is the checker's operator)");
    }
    Finding::ok(id, found)
}

/// Lamports a day: a commit and a reveal for each seat.
fn fees(network: &Network, seats: u64) -> u64 {
    let epochs = 86_400 / u64::from(network.grids[0].length.max(1));
    epochs.saturating_mul(2 * seats.max(1)).saturating_mul(SIGNATURE)
}

/// Bytes of evidence that the present seats fill in the time it is kept.
fn evidence(network: &Network, seats: u64) -> u64 {
    let epochs = KEPT * 86_400 / u64::from(network.grids[0].length.max(1));
    let used = u64::from(network.blocks).saturating_mul(256).saturating_sub(network.free_rows.into());
    let of_a_block = used / u64::from(network.blocks.max(1));
    epochs.saturating_mul(seats).saturating_mul(of_a_block).saturating_mul(EVIDENCE)
}

/// `checker.evidence`: whether its evidence server's port takes connections.
fn served(reached: Option<&(String, Reading<()>)>) -> Finding {
    let id = "checker.evidence";
    match reached {
        None => {
            Finding::skipped(id, "no address was named", "name where its evidence is served with --evidence <HOST:PORT>")
        }
        Some((address, Ok(()))) => {
            Finding::ok(id, "takes connections from this machine; from outside it was not tried").of(address)
        }
        Some((address, Err(why))) => {
            let advice = "start the checker, and open the port in the firewall: evidence must be served for 30 days";
            Finding::failed(id, why, advice).of(address)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use datagalax::state::CheckerSetHeader;

    use super::*;
    use crate::finding::State::{Failed, Ok as Fine, Skipped, Warning};

    fn ticket(status: u8, marks: u32) -> Ticket {
        Ticket { status, record: if marks == 0 { 0 } else { u64::MAX >> (64 - marks) }, ..Ticket::waiting(4, 1) }
    }

    #[test]
    fn a_checker_needs_tickets_in_the_order() {
        let of = |statuses: &[u8]| {
            let held: Vec<Ticket> = statuses.iter().map(|status| ticket(*status, 0)).collect();
            tickets(&Checker::zeroed(), &held.iter().collect::<Vec<_>>()).state
        };
        assert_eq!((of(&[]), of(&[Ticket::REMOVED])), (Failed, Failed));
        assert_eq!((of(&[Ticket::WAITING]), of(&[Ticket::LIVE, Ticket::RETIRED])), (Warning, Warning));
        assert_eq!(of(&[Ticket::LIVE, Ticket::WAITING]), Fine);
    }

    #[test]
    fn marks_are_counted_towards_retirement() {
        let of = |marks| record(&[&ticket(Ticket::LIVE, marks), &ticket(Ticket::REMOVED, 60)], 20);
        assert_eq!([0, 9, 10, 15, 16, 20].map(|marks| of(marks).state), [Fine, Fine, Warning, Warning, Failed, Failed]);
        assert!(of(9).found.contains("11 more retire"));
        assert_eq!(record(&[], 20).state, Skipped);
    }

    #[test]
    fn the_key_must_be_the_registered_one() {
        let checker = Checker { operator: Address::new_from_array([1; 32]), ..Checker::zeroed() };
        assert_eq!(operator(&checker, &checker.operator).state, Fine);
        assert_eq!(operator(&checker, &Address::default()).state, Failed);
    }

    #[test]
    fn seats_are_those_of_the_draw() {
        // Three tickets, two of checker 4: of the three seats of each block two.
        let entries = [4, 4, 9].into_iter().zip(0u32..);
        let held = entries.map(|(checker, at)| Ticket {
            checker,
            order: at,
            position: at,
            status: Ticket::LIVE,
            ..Ticket::waiting(checker, 1)
        });
        let set = CheckerSet { header: CheckerSetHeader::zeroed(), tickets: held.collect() };
        let epoch = Epoch { status: Epoch::DRAWN, tickets: 3, number: 5, ..Epoch::zeroed() };
        assert_eq!((seats_of(&set, &epoch, 7, 4), seats_of(&set, &epoch, 7, 9)), (14, 7));
        assert_eq!(seats_of(&set, &Epoch { status: Epoch::ADVANCED, ..epoch }, 7, 4), 0);
        assert_eq!(seated(&Ok(Some(Box::new(epoch))), 2).found, "2 in epoch 5");
        assert_eq!((seated(&Ok(None), 0).state, seated(&Err("no".into()), 0).state), (Skipped, Skipped));
    }

    #[test]
    fn pay_of_more_than_a_day_should_be_claimed() {
        let epoch = Epoch { seat_pay: 10, ..Epoch::zeroed() };
        let of = |accrued| {
            let held = Ticket { accrued, ..ticket(Ticket::LIVE, 0) };
            unclaimed(&Checker::zeroed(), &[&held], 2, Some(&epoch)).state
        };
        assert_eq!([0, 480, 481].map(of), [Fine, Fine, Warning]);
    }

    #[test]
    fn fees_and_room_grow_with_seats() {
        let mut network = bytemuck::allocation::zeroed_box::<Network>();
        network.grids[0].length = 3_600;
        (network.blocks, network.free_rows) = (2, 256);
        assert_eq!(fees(&network, 3), 24 * 6 * 5_000);
        assert_eq!(evidence(&network, 1), 720 * 128 * EVIDENCE);
        assert_eq!(served(None).state, Skipped);
        let of = |reached| served(Some(&("h:1".to_owned(), reached))).state;
        assert_eq!((of(Ok(())), of(Err("refused".into()))), (Fine, Failed));
    }
}
