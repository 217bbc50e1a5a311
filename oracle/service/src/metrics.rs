//! Metrics with typed names: a struct whose fields are the metrics, their names, types and help texts.
//!
//! ```
//! use datagalax_service::metrics::{Counter, Family, Histogram, Metrics, Registry, exponential_buckets, label};
//!
//! label! {
//!     /// What is done on chain.
//!     pub enum Action: "action" { Advance = "advance", Tally = "tally" }
//! }
//!
//! datagalax_service::metrics! {
//!     /// What the keeper counts.
//!     pub struct Keeping: "datagalax_keeper" {
//!         /// Actions that landed, by action.
//!         pub landed: Family<Action, Counter>,
//!         /// Time from when an action was due until it landed.
//!         pub delay_seconds: Histogram = Histogram::new(exponential_buckets(0.5, 2.0, 10)),
//!     }
//! }
//!
//! let mut registry = Registry::default();
//! let metrics = Keeping::register(&mut registry);
//! metrics.landed.get_or_create(&Action::Tally).inc();
//! let text = datagalax_service::metrics::encode(&registry);
//! assert!(text.contains("datagalax_keeper_landed_total{action=\"tally\"} 1\n"));
//! ```
//!
//! A counter's name gets `_total`; other names end in their unit (`_seconds`, `_bytes`, `_lamports`) where they have one.

use std::{
    fmt, fs,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use prometheus_client::{
    self,
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets, linear_buckets},
    },
    registry::Registry,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{Layer, layer::Context};

use crate::health::Health;

pub use crate::label;
#[doc(hidden)]
pub use prometheus_client::metrics::TypedMetric;

/// A gauge of fractions, such as seconds or a share.
pub type FloatGauge = Gauge<f64, AtomicU64>;

/// A daemon's metrics; [`metrics!`](crate::metrics!) implements it.
pub trait Metrics: Clone + Send + Sync + 'static {
    /// Registers all of them. Once a registry.
    fn register(registry: &mut Registry) -> Self;

    /// All of them as declared, also those without a series yet.
    fn declared() -> Vec<Declared>;
}

/// A metric as it is declared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declared {
    /// As it is queried, such as `datagalax_keeper_landed_total`.
    pub name: String,
    /// counter, gauge, histogram or info.
    pub kind: &'static str,
    /// What it says.
    pub help: String,
}

impl Declared {
    /// From what the encoder is given: it adds the suffix of a type and the help's full stop.
    #[doc(hidden)]
    pub fn new(name: &str, kind: MetricType, help: &str) -> Self {
        let (kind, suffix) = match kind {
            MetricType::Counter => ("counter", "_total"),
            MetricType::Gauge => ("gauge", ""),
            MetricType::Histogram => ("histogram", ""),
            MetricType::Info => ("info", "_info"),
            MetricType::Unknown => ("unknown", ""),
        };
        Self { name: format!("{name}{suffix}"), kind, help: format!("{help}.") }
    }
}

/// A daemon without metrics of its own.
impl Metrics for () {
    fn register(_: &mut Registry) -> Self {}

    fn declared() -> Vec<Declared> {
        Vec::new()
    }
}

/// Declares a struct of metrics: see [the module](crate::metrics). The first paragraph's text above a field is its help.
#[macro_export]
macro_rules! metrics {
    ($(#[$meta:meta])* $vis:vis struct $name:ident: $prefix:literal {
        $($(#[doc = $help:literal])+ $field_vis:vis $field:ident: $kind:ty $(= $make:expr)?,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name {
            $($(#[doc = $help])+ $field_vis $field: $kind,)*
        }

        impl $crate::metrics::Metrics for $name {
            fn register(registry: &mut $crate::metrics::Registry) -> Self {
                $(
                    let $field: $kind = $crate::metrics!(@make $($make)?);
                    {
                        #[allow(unused_imports, reason = "one of them is used, by the field's type")]
                        use $crate::metrics::start::{Each as _, Nothing as _};
                        (&$field).start();
                    }
                    let name = concat!($prefix, "_", stringify!($field));
                    registry.register(name, $crate::metrics::help(concat!($($help),+)), $field.clone());
                )*
                Self { $($field),* }
            }

            fn declared() -> Vec<$crate::metrics::Declared> {
                vec![$($crate::metrics::Declared::new(
                    concat!($prefix, "_", stringify!($field)),
                    <$kind as $crate::metrics::TypedMetric>::TYPE,
                    &$crate::metrics::help(concat!($($help),+)),
                )),*]
            }
        }
    };
    (@make) => { Default::default() };
    (@make $make:expr) => { $make };
}

/// Declares the label of a [`Family`] as an enum: its name and the values it can have.
#[macro_export]
macro_rules! label {
    ($(#[$meta:meta])* $vis:vis enum $name:ident: $label:literal { $($(#[$value_meta:meta])* $variant:ident = $value:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "a variant's value says what it is")]
        $vis enum $name { $($(#[$value_meta])* $variant),+ }

        impl $name {
            /// All values.
            $vis const ALL: &[Self] = &[$(Self::$variant),+];

            /// The label's value.
            $vis const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $value),+ }
            }
        }

        impl $crate::metrics::Label for $name {
            const VALUES: &'static [Self] = Self::ALL;
        }

        impl $crate::metrics::EncodeLabelSet for $name {
            fn encode(
                &self,
                encoder: &mut $crate::metrics::prometheus_client::encoding::LabelSetEncoder<'_>,
            ) -> Result<(), std::fmt::Error> {
                $crate::metrics::prometheus_client::encoding::EncodeLabel::encode(
                    &($label, self.as_str()),
                    encoder.encode_label(),
                )
            }
        }
    };
}

/// A label all of whose values are known: their series are there from the start, at zero, as an increase from nothing to one is
/// none to Prometheus. [`label!`](crate::label!) implements it.
pub trait Label: Sized + 'static {
    /// All of them.
    const VALUES: &'static [Self];
}

/// Starts the series of a family, and nothing for what is none: the method of the trait that needs no further reference wins.
#[doc(hidden)]
pub mod start {
    use std::hash::Hash;

    use prometheus_client::metrics::family::{Family, MetricConstructor};

    use super::Label;

    pub trait Each {
        fn start(&self);
    }

    impl<L: Label + Clone + Eq + Hash, M, C: MetricConstructor<M>> Each for Family<L, M, C> {
        fn start(&self) {
            for value in L::VALUES {
                drop(self.get_or_create(value));
            }
        }
    }

    pub trait Nothing {
        fn start(&self) {}
    }

    impl<T> Nothing for &T {}
}

/// A help text from doc comments: one line, without its last full stop, which the encoder adds.
#[doc(hidden)]
pub fn help(doc: &str) -> String {
    let words: Vec<&str> = doc.split_whitespace().collect();
    words.join(" ").trim_end_matches('.').to_owned()
}

/// The registry as Prometheus scrapes it (OpenMetrics text).
pub fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string fails only when a collector does, and ours do not.
    if let Err(error) = text::encode(&mut text, registry) {
        tracing::error!(%error, "metrics cannot be encoded");
    }
    text
}

/// A registry with what every daemon has: process, build, logs, health.
pub(crate) fn registry(daemon: &str, version: &str, health: &Health) -> Registry {
    let mut registry = Registry::default();
    let build = Info::new(vec![("daemon", daemon.to_owned()), ("version", version.to_owned())]);
    registry.register("datagalax_build", "Which daemon this is, and its version", build);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    registry.register_collector(Box::new(Process { started }));
    registry.register_collector(Box::new(Condition(health.clone())));
    registry
}

/// What a registry serves now, read from its exposition.
fn served(registry: &Registry) -> Vec<Declared> {
    let text = encode(registry);
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let declared = |line: &str| {
        let (name, help) = line.strip_prefix("# HELP ")?.split_once(' ')?;
        let kind = types.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        let kind = match kind {
            "counter" => MetricType::Counter,
            "gauge" => MetricType::Gauge,
            "histogram" => MetricType::Histogram,
            "info" => MetricType::Info,
            _ => MetricType::Unknown,
        };
        Some(Declared::new(name, kind, help.strip_suffix('.')?))
    };
    text.lines().filter_map(declared).collect()
}

/// The process as the system sees it.
#[derive(Debug)]
struct Process {
    started: Duration,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| {
            // What the system does not say is left out, not zero.
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            let described = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(described)
        };
        gauge("process_resident_memory_bytes", "Memory in use.", resident())?;
        gauge("process_open_fds", "Open files and sockets.", open_files())?;
        gauge("process_max_fds", "Most files and sockets that may be open.", most_files())?;
        gauge("process_start_time_seconds", "When the process started, in unix seconds.", Some(self.started.as_secs_f64()))?;
        if let Some(seconds) = cpu_time() {
            let counter = ConstCounter::new(seconds.as_secs_f64());
            let described =
                encoder.encode_descriptor("process_cpu_seconds", "Processor time used.", None, counter.metric_type())?;
            counter.encode(described)?;
        }
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut events =
            encoder.encode_descriptor("datagalax_log_events", "Warnings and errors logged, by level.", None, kind)?;
        for (level, count) in [("warn", &WARNINGS), ("error", &ERRORS)] {
            let counter = ConstCounter::new(count.load(Ordering::Relaxed));
            counter.encode(events.encode_family(&[("level", level)])?)?;
        }
        Ok(())
    }
}

fn resident() -> Option<f64> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: sysconf has no preconditions.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some((pages * page) as f64)
}

fn open_files() -> Option<f64> {
    // One of them is the folder being read.
    Some((fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)) as f64)
}

fn most_files() -> Option<f64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live value of the type that the call fills.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0).then_some(limit.rlim_cur as f64)
}

fn cpu_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value of the type that the call fills.
    let got = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) } == 0;
    got.then(|| Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?)))?
}

/// The daemon's own word on its health.
#[derive(Debug)]
struct Condition(Health);

impl Collector for Condition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (reasons, hanging) = (self.0.topics(), self.0.hanging());
        let mut gauge = |name: &str, help: &str, value: bool| {
            let gauge = ConstGauge::new(i64::from(value));
            let described = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(described)
        };
        gauge("datagalax_live", "1 while every loop keeps its promise to tick, as /live.", hanging.is_empty())?;
        gauge("datagalax_ready", "1 while nothing is in the way of the daemon's work, as /ready.", reasons.is_empty())?;
        let kind = ConstGauge::new(1_i64).metric_type();
        let help = "1 for each topic that is in the way of the daemon's work; /ready says the reason.";
        let mut topics = encoder.encode_descriptor("datagalax_not_ready", help, None, kind)?;
        for (topic, _) in reasons {
            ConstGauge::new(1_i64).encode(topics.encode_family(&[("topic", topic)])?)?;
        }
        Ok(())
    }
}

static WARNINGS: AtomicU64 = AtomicU64::new(0);
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// Counts warnings and errors as they are logged.
pub(crate) struct CountEvents;

impl<S: Subscriber> Layer<S> for CountEvents {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let count = match *event.metadata().level() {
            Level::WARN => &WARNINGS,
            Level::ERROR => &ERRORS,
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What `--print-metrics` prints: one a line, sorted by name; name, type and help separated by tabs.
pub(crate) fn print<M: Metrics>(daemon: &str, version: &str) -> String {
    // Every daemon is unready at first, so that each of the shared ones has a series.
    let mut all = served(&registry(daemon, version, &Health::default()));
    all.extend(M::declared());
    all.sort();
    all.iter().map(|Declared { name, kind, help }| format!("{name}\t{kind}\t{help}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    crate::label! {
        /// An outcome.
        enum Outcome: "outcome" { Right = "right", Wrong = "wrong" }
    }

    crate::metrics! {
        /// Of a test.
        struct Sample: "datagalax_sample" {
            /// Answers, by
            /// outcome.
            answers: Family<Outcome, Counter>,
            /// How far it is
            distance_seconds: FloatGauge,
            /// How long it took.
            round_seconds: Histogram = Histogram::new([0.1, 1.0]),
        }
    }

    #[test]
    fn names_types_and_help_come_from_the_declaration() {
        let mut registry = Registry::default();
        let sample = Sample::register(&mut registry);
        sample.answers.get_or_create(&Outcome::Wrong).inc_by(2);
        sample.distance_seconds.set(1.5);
        sample.round_seconds.observe(0.5);
        let declared = Sample::declared();
        let shown: Vec<[&str; 3]> = declared.iter().map(|d| [d.name.as_str(), d.kind, d.help.as_str()]).collect();
        assert_eq!(
            shown,
            [
                ["datagalax_sample_answers_total", "counter", "Answers, by outcome."],
                ["datagalax_sample_distance_seconds", "gauge", "How far it is."],
                ["datagalax_sample_round_seconds", "histogram", "How long it took."],
            ]
        );
        // Those that have a series are served as they are declared.
        assert_eq!(served(&registry), declared);
        let text = encode(&registry);
        assert!(text.contains("datagalax_sample_answers_total{outcome=\"wrong\"} 2\n"), "{text}");
        assert!(text.contains("datagalax_sample_answers_total{outcome=\"right\"} 0\n"), "{text}");
        assert!(text.contains("datagalax_sample_round_seconds_bucket{le=\"1.0\"} 1\n"), "{text}");
        assert_eq!(Outcome::ALL.iter().map(|o| o.as_str()).collect::<Vec<_>>(), ["right", "wrong"]);
    }

    #[test]
    fn what_is_printed_is_what_is_served_and_each_name_is_there_once() {
        let printed = print::<Sample>("datagalax-sample", "1.2.3");
        let names: Vec<&str> = printed.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "{printed}");
        for name in [
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "datagalax_build_info",
            "datagalax_not_ready",
            "datagalax_sample_answers_total",
        ] {
            assert!(names.contains(&name), "{name} in {printed}");
        }
    }
}
