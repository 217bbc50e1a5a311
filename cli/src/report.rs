//! An answer: the same data as tables for people and as JSON for programs.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use datagalax_client::{
    Address,
    amount::{Ath, grouped},
    pipeline::Landed,
};
use serde_json::{Map, Value, json};

use crate::{
    finding::{Finding, State},
    lease::size,
    options::Output,
    time::{span, utc},
};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Base units of $ATH. A string in JSON: programs read numbers above 2^53 wrongly.
    Ath(u64),
    /// A number.
    Number(u64),
    /// Percent.
    Percent(u8),
    /// Percents of epochs, the newest first; `None` for a void one.
    Percents(Vec<Option<u8>>),
    /// Unix seconds.
    Time(i64),
    /// Seconds.
    Span(u64),
    /// Bytes of memory or of a disk.
    Bytes(u64),
    /// Words.
    Text(String),
    /// An address.
    Address(Address),
    /// Yes or no.
    Flag(bool),
    /// Nothing.
    None,
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Ath(amount) => Ath(*amount).to_string(),
            Self::Number(number) => grouped(*number),
            Self::Percent(percent) => format!("{percent} %"),
            Self::Percents(all) if all.is_empty() => "-".to_owned(),
            Self::Percents(all) => {
                let one = |percent: &Option<u8>| percent.map_or("-".to_owned(), |percent| percent.to_string());
                all.iter().map(one).collect::<Vec<_>>().join(" ")
            }
            Self::Time(seconds) => utc(*seconds),
            Self::Span(seconds) => span(*seconds),
            Self::Bytes(bytes) => size::show(*bytes),
            Self::Text(text) => text.clone(),
            Self::Address(address) => address.to_string(),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Self::None => "-".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Ath(amount) => json!(amount.to_string()),
            Self::Number(number) | Self::Span(number) | Self::Bytes(number) => json!(number),
            Self::Percent(percent) => json!(percent),
            Self::Percents(all) => json!(all),
            Self::Time(seconds) => json!(seconds),
            Self::Text(text) => json!(text),
            Self::Address(address) => json!(address.to_string()),
            Self::Flag(flag) => json!(flag),
            Self::None => Value::Null,
        }
    }

    const fn is_number(&self) -> bool {
        matches!(self, Self::Ath(_) | Self::Number(_) | Self::Percent(_))
    }
}

macro_rules! cells {
    ($($type:ty => |$v:ident| $cell:expr),* $(,)?) => { $(impl From<$type> for Cell { fn from($v: $type) -> Self { $cell } })* };
}
cells! {
    Ath => |a| Self::Ath(a.0),
    u8 => |n| Self::Number(n.into()),
    u16 => |n| Self::Number(n.into()),
    u32 => |n| Self::Number(n.into()),
    u64 => |n| Self::Number(n),
    usize => |n| Self::Number(n as u64),
    bool => |f| Self::Flag(f),
    &str => |t| Self::Text(t.to_owned()),
    String => |t| Self::Text(t),
    Address => |a| Self::Address(a),
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// A part of an answer. Keys and columns are the JSON's names; tables show them with spaces.
#[derive(Debug, PartialEq)]
enum Section {
    Fields { key: String, fields: Vec<(&'static str, Cell)> },
    Rows { key: String, columns: Vec<&'static str>, rows: Vec<Vec<Cell>> },
    Transaction { label: String, landed: Landed },
    Checks(Vec<Finding>),
    Note(String),
}

/// What a command answers.
#[derive(Debug, Default, PartialEq)]
pub struct Report {
    sections: Vec<Section>,
    status: Option<u8>,
    apart: bool,
}

impl Report {
    /// An empty answer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Named values of one thing.
    pub fn fields(mut self, key: impl Into<String>, fields: Vec<(&'static str, Cell)>) -> Self {
        self.sections.push(Section::Fields { key: key.into(), fields });
        self
    }

    /// A table. Every row has as many cells as there are columns.
    pub fn rows(mut self, key: impl Into<String>, columns: &[&'static str], rows: Vec<Vec<Cell>>) -> Self {
        debug_assert!(rows.iter().all(|r| r.len() == columns.len()));
        self.sections.push(Section::Rows { key: key.into(), columns: columns.to_vec(), rows });
        self
    }

    /// A transaction that was sent.
    pub fn sent(mut self, label: impl Into<String>, landed: Landed) -> Self {
        self.sections.push(Section::Transaction { label: label.into(), landed });
        self
    }

    /// This answer, then another.
    pub fn and(mut self, other: Self) -> Self {
        self.sections.extend(other.sections);
        self.status = other.status.or(self.status);
        self.apart |= other.apart;
        self
    }

    /// The command's exit status, where it is that of a command it ran.
    pub const fn ends_with(mut self, status: u8) -> Self {
        self.status = Some(status);
        self
    }

    /// Shown on standard error: standard output is somebody else's.
    pub const fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// Whether it belongs on standard error.
    pub const fn is_apart(&self) -> bool {
        self.apart
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        self.status.unwrap_or(u8::from(self.has_failed()))
    }

    /// Whether there is nothing to show.
    pub const fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }

    /// What checks found: a table, then what to do about each that is not ok. One that failed makes the command fail.
    pub fn checks(mut self, findings: Vec<Finding>) -> Self {
        self.sections.push(Section::Checks(findings));
        self
    }

    /// Whether a check failed.
    fn has_failed(&self) -> bool {
        let failed = |section: &Section| match section {
            Section::Checks(findings) => findings.iter().any(|finding| finding.state == State::Failed),
            _ => false,
        };
        self.sections.iter().any(failed)
    }

    /// A sentence for people; in JSON an entry of `notes`.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.sections.push(Section::Note(text.into()));
        self
    }

    /// The answer as text that ends with a line feed.
    pub fn render(&self, output: Output) -> String {
        match output {
            Output::Table => self.tables(),
            Output::Json => format!("{:#}\n", self.json()),
        }
    }

    fn tables(&self) -> String {
        let mut parts = Vec::new();
        for section in &self.sections {
            parts.push(match section {
                Section::Fields { key, fields } => {
                    let mut table = table();
                    for (name, cell) in fields {
                        table.add_row([name.replace('_', " "), cell.text()]);
                    }
                    format!("{}\n{table}", title(key))
                }
                Section::Rows { key, rows, .. } if rows.is_empty() => format!("{}: none", title(key)),
                Section::Rows { key, columns, rows } => {
                    let mut table = table();
                    table.set_header(columns.iter().map(|c| c.replace('_', " ")));
                    for row in rows {
                        table.add_row(row.iter().map(|cell| {
                            let alignment = if cell.is_number() { CellAlignment::Right } else { CellAlignment::Left };
                            comfy_table::Cell::new(cell.text()).set_alignment(alignment)
                        }));
                    }
                    format!("{}\n{table}", title(key))
                }
                Section::Transaction { label, landed } => format!("{label}\nsignature {}", landed.signature),
                Section::Checks(findings) => checks(findings),
                Section::Note(text) => text.clone(),
            });
        }
        parts.join("\n\n") + "\n"
    }

    fn json(&self) -> Value {
        let mut all = Map::new();
        for section in &self.sections {
            match section {
                Section::Fields { key, fields } => {
                    let object = fields.iter().map(|(name, cell)| ((*name).to_owned(), cell.json())).collect();
                    all.insert(key.clone(), Value::Object(object));
                }
                Section::Rows { key, columns, rows } => {
                    let object = |row: &Vec<Cell>| -> Value {
                        columns.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), cell.json())).collect()
                    };
                    all.insert(key.clone(), rows.iter().map(object).collect());
                }
                Section::Transaction { label, landed } => {
                    let sent = json!({
                        "label": label,
                        "signature": landed.signature.to_string(),
                        "slot": landed.slot,
                        "compute_units": landed.units,
                    });
                    push(&mut all, "transactions", sent);
                }
                Section::Checks(findings) => {
                    all.insert("checks".to_owned(), findings.iter().map(Finding::json).collect());
                    let counts = STATES.iter().map(|state| (state.word().to_owned(), json!(count(findings, *state))));
                    all.insert("summary".to_owned(), Value::Object(counts.collect()));
                }
                Section::Note(text) => push(&mut all, "notes", json!(text)),
            }
        }
        Value::Object(all)
    }
}

/// Most characters of what a check found in its table.
const WIDEST: usize = 72;
const STATES: [State; 4] = [State::Ok, State::Warning, State::Failed, State::Skipped];

fn count(findings: &[Finding], state: State) -> usize {
    findings.iter().filter(|finding| finding.state == state).count()
}

fn checks(findings: &[Finding]) -> String {
    let mut table = table();
    for Finding { id, of, state, found, .. } in findings {
        // Whole below, for those that have something to say.
        let mut short: String = found.chars().take(WIDEST).collect();
        if short.len() < found.len() {
            short.push('…');
        }
        table.add_row([state.mark(), id, of.as_deref().unwrap_or_default(), &short]);
    }
    let mut text = format!("Checks\n{table}\n\n");
    for Finding { id, of, state, found, advice } in findings {
        if let (Some(advice), State::Warning | State::Failed) = (advice, state) {
            let of = of.as_ref().map(|of| format!(" of {of}")).unwrap_or_default();
            text += &format!("{} {id}{of}: {found}\n  {advice}\n", state.mark());
        }
    }
    let counts = STATES.map(|state| format!("{} {}", count(findings, state), state.word()));
    let gap = if text.ends_with("\n\n") { "" } else { "\n" };
    text + gap + &counts.join(", ")
}

fn push(all: &mut Map<String, Value>, key: &str, value: Value) {
    if let Value::Array(list) = all.entry(key).or_insert_with(|| json!([])) {
        list.push(value);
    }
}

fn title(key: &str) -> String {
    let text = key.replace('_', " ");
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new()
            .fields("provider", vec![("id", 7u32.into()), ("free_stake", Ath(1_234_567_890).into()), ("payout", Cell::None)])
            .rows("rows", &["row", "availability"], vec![vec![0u8.into(), Cell::Percent(99)]])
            .fields("lately", vec![("percents", Cell::Percents(vec![Some(7), None])), ("never", Cell::Percents(vec![]))])
            .sent("Staked", Landed { signature: Default::default(), slot: 5, units: 6, fee: 5_000 })
            .note("Careful.")
    }

    #[test]
    fn tables_show_amounts_in_ath_and_every_signature() {
        let text = report().render(Output::Table);
        for part in ["Provider", "free stake", "1,234.567890", "99 %", "7 -", "signature 1111", "Careful."] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(Report::new().rows("blocks", &["index"], vec![]).render(Output::Table).contains("Blocks: none"));
    }

    #[test]
    fn checks_say_what_to_do_and_one_that_failed_fails_the_command() {
        let good =
            Report::new().checks(vec![Finding::ok("a.good", "fine"), Finding::skipped("a.not", "no chain", "name one")]);
        assert!(!good.has_failed());
        let warned = good.and(Report::new().checks(vec![Finding::warning("a.low", "low", "fill it")]));
        assert!(!warned.has_failed());
        let bad = Report::new().checks(vec![Finding::failed("a.bad", "broken", "mend it with `x`").of("y")]);
        assert!(bad.has_failed());
        let text = bad.render(Output::Table);
        assert!(text.contains("✗ a.bad of y: broken\n  mend it with `x`") && text.contains("1 failed"), "{text}");
        let value: Value = serde_json::from_str(&bad.render(Output::Json)).unwrap();
        let expected =
            json!([{ "id": "a.bad", "of": "y", "state": "failed", "found": "broken", "advice": "mend it with `x`" }]);
        assert_eq!((&value["checks"], &value["summary"]["failed"]), (&expected, &json!(1)));
    }

    #[test]
    fn a_report_can_carry_another_commands_status() {
        assert_eq!((report().status(), report().ends_with(7).status()), (0, 7));
        let both = report().and(Report::new().ends_with(3).apart());
        assert!(both.status() == 3 && both.is_apart() && !report().is_apart());
    }

    #[test]
    fn json_has_the_same_with_exact_amounts() {
        let value: Value = serde_json::from_str(&report().render(Output::Json)).unwrap();
        assert_eq!(value["provider"], json!({ "id": 7, "free_stake": "1234567890", "payout": null }));
        assert_eq!(value["rows"], json!([{ "row": 0, "availability": 99 }]));
        assert_eq!(value["lately"], json!({ "percents": [7, null], "never": [] }));
        assert_eq!(value["transactions"][0]["slot"], 5);
        assert_eq!(value["notes"], json!(["Careful."]));
    }
}
