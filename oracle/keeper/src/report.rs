//! What keeping cost and earned, for people and for programs.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Value, json};

use crate::{
    books::{Sum, Sums},
    decide::Kind,
};

/// Epochs that a table shows one by one.
const EPOCHS: usize = 24;

fn all(sums: &Sums) -> (BTreeMap<Kind, Sum>, BTreeMap<u32, Sum>, Sum) {
    let (mut kinds, mut epochs, mut total) = (BTreeMap::new(), BTreeMap::new(), Sum::default());
    for ((epoch, kind), sum) in sums {
        kinds.entry(*kind).or_insert_with(Sum::default).add(sum);
        epochs.entry(*epoch).or_insert_with(Sum::default).add(sum);
        total.add(sum);
    }
    (kinds, epochs, total)
}

fn line(text: &mut String, name: &str, sum: &Sum) {
    let Sum { done, wasted, transactions, fees, fees_wasted, pay } = sum;
    // Base units are millionths of an ATH.
    let (whole, part) = (pay / 1_000_000, pay % 1_000_000);
    let pay = format!("{whole}.{part:06}");
    // Writing to a string does not fail.
    writeln!(text, "{name:<14}{done:>10}{wasted:>8}{transactions:>14}{fees:>16}{fees_wasted:>14}{pay:>18}").ok();
}

fn head(text: &mut String, name: &str) {
    let (fees, lost, pay) = ("fees, lamports", "of them lost", "pay, ATH");
    writeln!(text, "{name:<14}{:>10}{:>8}{:>14}{fees:>16}{lost:>14}{pay:>18}", "done", "failed", "transactions").ok();
}

/// As a table: by kind since the start, and the last epochs.
pub fn table(sums: &Sums) -> String {
    let (kinds, epochs, total) = all(sums);
    let mut text = String::new();
    if sums.is_empty() {
        return "Nothing was sent yet.\n".to_owned();
    }
    head(&mut text, "action");
    kinds.iter().for_each(|(kind, sum)| line(&mut text, kind.name(), sum));
    line(&mut text, "all", &total);
    text.push('\n');
    head(&mut text, "epoch");
    let skipped = epochs.len().saturating_sub(EPOCHS);
    epochs.iter().skip(skipped).for_each(|(epoch, sum)| line(&mut text, &epoch.to_string(), sum));
    if skipped > 0 {
        writeln!(text, "and {skipped} epochs before: --output json has them all").ok();
    }
    text
}

fn object(sum: &Sum) -> Value {
    json!({
        "done": sum.done, "failed": sum.wasted, "transactions": sum.transactions, "fees_lamports": sum.fees,
        "fees_lost_lamports": sum.fees_wasted, "pay_base_units": sum.pay,
    })
}

/// As JSON: in all, by kind, and by epoch and kind.
pub fn json(sums: &Sums) -> Value {
    let (kinds, epochs, total) = all(sums);
    let of_epoch = |(epoch, sum): (&u32, &Sum)| {
        let kinds = sums.range((*epoch, Kind::Advance)..).take_while(|((of, _), _)| of == epoch);
        let kinds: BTreeMap<&str, Value> = kinds.map(|((_, kind), sum)| (kind.name(), object(sum))).collect();
        json!({ "epoch": epoch, "total": object(sum), "kinds": kinds })
    };
    let by_kind: BTreeMap<&str, Value> = kinds.iter().map(|(kind, sum)| (kind.name(), object(sum))).collect();
    json!({ "total": object(&total), "kinds": by_kind, "epochs": epochs.iter().map(of_epoch).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums() -> Sums {
        let sum =
            |done, wasted| Sum { done, wasted, transactions: 2, fees: 10_000, fees_wasted: 5_000 * wasted, pay: 1_500_000 };
        Sums::from([((7, Kind::Draw), sum(1, 0)), ((7, Kind::Tally), sum(9, 1)), ((8, Kind::Draw), sum(1, 0))])
    }

    #[test]
    fn the_table_adds_up_by_kind_and_by_epoch() {
        let text = table(&sums());
        let words = |name: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(words("draw"), ["draw", "2", "0", "4", "20000", "0", "3.000000"]);
        assert_eq!(words("all"), ["all", "11", "1", "6", "30000", "5000", "4.500000"]);
        assert_eq!(words("7"), ["7", "10", "1", "4", "20000", "5000", "3.000000"]);
        assert_eq!(table(&Sums::new()), "Nothing was sent yet.\n");
    }

    #[test]
    fn the_json_has_every_epoch_and_kind() {
        let json = json(&sums());
        assert_eq!(json["total"]["fees_lamports"], 30_000);
        assert_eq!(json["kinds"]["tally"]["failed"], 1);
        assert_eq!(json["epochs"][0]["epoch"], 7);
        assert_eq!(json["epochs"][0]["kinds"]["tally"]["done"], 9);
        assert_eq!(json["epochs"][1]["kinds"]["tally"], Value::Null);
    }
}
