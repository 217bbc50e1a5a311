//! The bill for people and programs.

use datagalax::{constants::NONE, state::Lease};
use datagalax_client::{Address, amount::Ath};

use super::{
    bill::{Availability, Bill, Part},
    reason,
};
use crate::{
    report::{Cell, Report},
    time::{span, utc},
};

const COLUMNS: [&str; 7] = ["epoch", "from", "until", "seconds", "availability", "because", "settled"];

/// The bill: its figures, then epoch by epoch, then what to know about it.
pub fn report(bill: &Bill, address: &Address) -> Report {
    let mut report = Report::new().fields("bill", fields(bill, address)).and(epochs(bill));
    for note in notes(bill, address) {
        report = report.note(note);
    }
    report
}

/// What checkers measured, epoch by epoch.
pub fn epochs(bill: &Bill) -> Report {
    Report::new().rows("epochs", &COLUMNS, bill.parts.iter().map(row).collect())
}

fn fields(bill: &Bill, address: &Address) -> Vec<(&'static str, Cell)> {
    let lease = &bill.lease;
    let started = |cell: Cell| if lease.started == 0 { Cell::None } else { cell };
    vec![
        ("lease", (*address).into()),
        ("container", lease.container.into()),
        ("state", reason::state(lease).into()),
        ("ended_because", reason::word(lease).into()),
        ("started", started(Cell::Time(lease.started))),
        ("due_until", if lease.ended == 0 { Cell::None } else { Cell::Time(lease.ended) }),
        ("asked", Cell::Span(lease.max_seconds.into())),
        ("settled", Cell::Span(bill.settled_seconds)),
        ("delivered", Cell::Span(bill.delivered_seconds())),
        ("price_per_hour", Ath(lease.price_per_hour).into()),
        ("fee_bps", lease.fee_bps.into()),
        ("indexer", (lease.indexer != NONE).then_some(lease.indexer).into()),
        ("paid", Ath(lease.paid).into()),
        ("fee", Ath(lease.fee).into()),
        ("refunded", Ath(lease.refunded).into()),
        ("held", Ath(bill.held).into()),
        ("escrowed", Ath(lease.escrowed).into()),
        ("adds_up", bill.adds_up.into()),
        ("still_due_at_most", Ath(bill.still_due()).into()),
        ("settled_by", bill.settled_by.map_or(Cell::None, Cell::Time)),
        ("compensation", Ath(lease.compensation).into()),
        ("withdrawn", Ath(lease.withdrawn.saturating_add(lease.compensation_withdrawn)).into()),
    ]
}

fn row(part: &Part) -> Vec<Cell> {
    let (percent, because) = match part.availability {
        Availability::Measured(percent) => (Cell::Percent(percent), "measured"),
        Availability::NoVerdict(percent) => (Cell::Percent(percent), "no verdict: as the epoch before"),
        Availability::Partial => (Cell::Percent(100), "part of an epoch: in full"),
        Availability::Forgotten => (Cell::None, "settled, not kept any more"),
        Availability::Awaited => (Cell::None, "awaited"),
    };
    vec![
        part.epoch.into(),
        Cell::Time(part.from),
        Cell::Time(part.to),
        part.seconds().into(),
        percent,
        because.into(),
        part.settled.into(),
    ]
}

fn notes(bill: &Bill, address: &Address) -> Vec<String> {
    let lease = &bill.lease;
    let mut notes: Vec<String> = reason::sentence(lease).into_iter().collect();
    let sum = [lease.paid, lease.fee, lease.refunded, bill.held].map(|amount| Ath(amount).to_string());
    let [paid, fee, refunded, held] = sum;
    let escrowed = Ath(lease.escrowed);
    notes.push(if bill.adds_up {
        format!("{paid} paid + {fee} fee + {refunded} refunded + {held} held = {escrowed} ATH escrowed: it adds up.")
    } else {
        format!(
            "IT DOES NOT ADD UP: {paid} paid + {fee} fee + {refunded} refunded + {held} held, {escrowed} ATH escrowed, {} s settled. Report this lease.",
            bill.settled_seconds
        )
    });
    if let (Some(by), Lease::ENDED) = (bill.settled_by, lease.status) {
        let rest = u64::try_from(lease.end().saturating_sub(lease.settled_until)).unwrap_or(0);
        notes.push(format!(
            "{} of it are not settled: at most {} ATH are still due, the rest of what is held goes back, by {} at the latest. A keeper settles it, or you with `datagalax lease settle {address} --wait`; then `datagalax withdraw --account {address}` pays out what came back.",
            span(rest),
            Ath(bill.still_due()),
            utc(by),
        ));
    }
    let waiting = lease.refunded.saturating_sub(lease.withdrawn);
    let credit = lease.compensation.saturating_sub(lease.compensation_withdrawn);
    if waiting.saturating_add(credit) > 0 && lease.status != Lease::STARTED {
        notes.push(format!(
            "{} ATH are yours to withdraw: `datagalax withdraw --account {address}`.",
            Ath(waiting.saturating_add(credit))
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use datagalax::state::Network;

    use super::*;
    use crate::options::Output;

    fn shown(lease: &Lease, output: Output) -> String {
        let mut network = bytemuck::allocation::zeroed_box::<Network>();
        (network.grids[0].length, network.grids[1].length) = (60, 60);
        let bill = Bill::new(lease, &network, None, 10_000).unwrap();
        report(&bill, &Address::new_from_array([5; 32])).render(output)
    }

    #[test]
    fn a_bill_says_what_is_owed_and_what_to_do() {
        let mut lease = Lease::zeroed();
        (lease.version, lease.status, lease.reason) = (datagalax::state::VERSION, Lease::ENDED, Lease::REASON_USER);
        (lease.started, lease.settled_until, lease.closed, lease.ended) = (600, 660, 700, 1_200);
        (lease.max_seconds, lease.price_per_hour, lease.fee_bps) = (3_600, 3_600_000_000, 2_000);
        (lease.escrowed, lease.delivered, lease.paid, lease.fee) = (4_320_000_000, 6_000, 60_000_000, 12_000_000);
        let text = shown(&lease, Output::Table);
        for part in [
            "60.000000 paid + 12.000000 fee + 0.000000 refunded + 4,248.000000 held = 4,320.000000",
            "9 min of it",
            "648.000000 ATH are still due",
            "--wait",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(text.contains("then `datagalax withdraw") && !text.contains("are yours to withdraw"));
        let json: serde_json::Value = serde_json::from_str(&shown(&lease, Output::Json)).unwrap();
        assert_eq!((&json["bill"]["adds_up"], &json["bill"]["held"]), (&true.into(), &"4248000000".into()));
        assert_eq!(json["epochs"][0]["because"], "settled, not kept any more");
        lease.paid += 1;
        assert!(shown(&lease, Output::Table).contains("DOES NOT ADD UP"));
    }
}
