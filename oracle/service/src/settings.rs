//! Settings: command line, then environment, then file, then default.
//!
//! A setting is an option with an environment variable; options without one are commands, such as `--print-settings`. What
//! the file says is put in front of the command line, so that one parser checks everything and `--help` describes it all.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt::Write,
    fs::File,
    io::Read,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    Arg, ArgAction, Args, Command, Parser,
    error::{ContextKind, ContextValue},
};
use thiserror::Error;
use toml::{Table, Value};

/// Largest settings file in bytes.
const MAX_FILE: u64 = 256 * 1024;
/// Options of [`Shared`] that the file cannot hold: they are asked for before it is read, or are not settings.
const NOT_IN_FILE: [&str; 1] = ["config"];

/// The settings every daemon has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Settings of every daemon")]
pub struct Shared {
    /// TOML file of settings, `name = value` by the long options' names. The command line and then the environment take
    /// precedence over it. Secrets are never in it: it names the files that hold them.
    #[arg(long, env = "DATAGALAX_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter such as `warn,datagalax_agent=debug`. Logs go to standard
    /// error, compact on a terminal and as JSON elsewhere.
    #[arg(long, env = "DATAGALAX_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// Where to serve /metrics, /live and /ready: a port of the loopback address, or address:port. Without it they are not
    /// served. They are plain HTTP and for the operator alone: do not open them to the world.
    #[arg(long, env = "DATAGALAX_MONITOR", value_name = "ADDRESS", value_parser = monitor_address)]
    pub monitor: Option<SocketAddr>,
    /// Longest time for an orderly end after a signal to stop, such as 10s; a second signal ends at once.
    #[arg(long, env = "DATAGALAX_GRACE", default_value = "10s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// Print a settings file with every setting, its meaning and its default, and exit.
    #[arg(long)]
    pub print_settings: bool,
    /// Print the metrics that are served, one a line: name, type, help; and exit.
    #[arg(long)]
    pub print_metrics: bool,
}

/// A daemon's settings: its own with [`Shared`] flattened into them.
pub trait Settings: Parser {
    /// The shared ones.
    fn shared(&self) -> &Shared;
}

/// A port of the loopback address, or address:port.
fn monitor_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| "expected a port, or address:port such as 127.0.0.1:9600 or [::1]:9600".to_owned())
}

/// What reading the settings ends in when not in settings.
#[derive(Debug)]
pub enum Stopped {
    /// Something was asked to be printed: this.
    Printed(String),
    /// The settings cannot work.
    Refused(Refusal),
}

/// Why settings cannot work. Each names the option and where its value came from.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The settings file cannot be read.
    #[error("--config: cannot read {path}: {error}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The settings file is too large to be one.
    #[error("--config: {path} is larger than {MAX_FILE} bytes: name a settings file (--print-settings shows one)", path = .0.display())]
    TooLarge(PathBuf),
    /// The settings file is no TOML.
    #[error("--config: {path} is no TOML: {error}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// The settings file has a name that is no setting.
    #[error("{path}: there is no setting `{name}`{hint}; --print-settings shows all", path = path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The nearest name that is one.
        hint: String,
    },
    /// The settings file has a value of the wrong type.
    #[error("{path}: --{name} cannot be {found}: write {expected}", path = path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The setting.
        name: String,
        /// What the file has.
        found: &'static str,
        /// What it should have.
        expected: &'static str,
    },
    /// A value or the set of options is wrong.
    #[error("{text}")]
    Usage {
        /// What clap says, and where the value came from.
        text: String,
    },
}

/// Reads the settings from the arguments (the first is the program's name), the environment and the file.
///
/// # Errors
/// Help, version and `--print-settings` as text; settings that cannot work with their reason.
pub fn read<S: Settings>(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<S, Stopped> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = S::command();
    if is_given(&arguments, "print-settings") {
        return Err(Stopped::Printed(describe(&command)));
    }
    let asks_for_help = ["--help", "-h", "--version", "-V"].iter().any(|flag| arguments.iter().any(|a| a == flag));
    let file = match value_given(&arguments, "config").or_else(|| environment("DATAGALAX_CONFIG").filter(|v| !v.is_empty()))
    {
        Some(path) if !asks_for_help => from_file(&command, Path::new(&path)).map_err(Stopped::Refused)?,
        _ => FromFile::default(),
    };
    let with_file = {
        let mut rest = arguments.iter().cloned();
        let mut all: Vec<OsString> = rest.next().into_iter().collect();
        let overridden = |name: &str| {
            let variable = option(&command, name).and_then(|a| a.get_env()).and_then(OsStr::to_str);
            is_given(&arguments, name) || variable.and_then(&environment).is_some()
        };
        all.extend(file.values.iter().filter(|(name, _)| !overridden(name)).flat_map(|(_, arguments)| arguments.clone()));
        all.extend(rest);
        all
    };
    S::try_parse_from(with_file).map_err(|error| {
        if !error.use_stderr() {
            return Stopped::Printed(error.render().to_string());
        }
        let mut text = error.render().to_string();
        let names = |value: &ContextValue| match value {
            ContextValue::String(name) => vec![name.clone()],
            ContextValue::Strings(names) => names.clone(),
            _ => Vec::new(),
        };
        let invalid = error.get(ContextKind::InvalidArg).map(names).unwrap_or_default();
        for shown in invalid {
            let Some(found) = shown.strip_prefix("--").and_then(|s| s.split([' ', '=', '[', '.']).next()) else { continue };
            let Some(argument) = option(&command, found) else { continue };
            let variable = argument.get_env().and_then(OsStr::to_str).filter(|name| environment(name).is_some());
            let origin = if is_given(&arguments, found) {
                "the command line".to_owned()
            } else if let Some(variable) = variable {
                format!("the environment variable {variable}")
            } else if let (true, Some(path)) = (file.values.contains_key(found), &file.path) {
                format!("the settings file {}", path.display())
            } else {
                // It is missing: say all the ways to give it.
                let variable = argument.get_env().map(|v| format!(", {} in the environment", v.display()));
                let variable = variable.unwrap_or_default();
                writeln!(text, "--{found} is given nowhere: give it on the command line{variable} or in the --config file")
                    .ok();
                continue;
            };
            writeln!(text, "--{found} came from {origin}").ok();
        }
        Stopped::Refused(Refusal::Usage { text: text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned() })
    })
}

/// What the file says, as arguments by the option's name.
#[derive(Default)]
struct FromFile {
    path: Option<PathBuf>,
    values: BTreeMap<String, Vec<OsString>>,
}

fn from_file(command: &Command, path: &Path) -> Result<FromFile, Refusal> {
    let unreadable = |error| Refusal::Unreadable { path: path.to_owned(), error };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text)).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE {
        return Err(Refusal::TooLarge(path.to_owned()));
    }
    let table: Table = text.parse().map_err(|e| Refusal::Syntax { path: path.to_owned(), error: Box::new(e) })?;
    let mut values = BTreeMap::new();
    for (name, value) in table {
        let argument = settings(command).find(|argument| argument.get_long() == Some(&name)).ok_or_else(|| {
            let near = settings(command)
                .filter_map(Arg::get_long)
                .max_by(|a, b| strsim::jaro_winkler(a, &name).total_cmp(&strsim::jaro_winkler(b, &name)));
            let hint = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
            Refusal::Unknown { path: path.to_owned(), name: name.clone(), hint }
        })?;
        let wrong = |found, expected| Refusal::Type { path: path.to_owned(), name: name.clone(), found, expected };
        let as_argument = |value: &Value| match value {
            Value::String(text) => Ok(format!("--{name}={text}").into()),
            Value::Integer(number) => Ok(format!("--{name}={number}").into()),
            Value::Float(number) => Ok(format!("--{name}={number}").into()),
            Value::Boolean(truth) => Ok(format!("--{name}={truth}").into()),
            other => Err(wrong(other.type_str(), "a string, a number, true or false")),
        };
        let arguments = match (argument.get_action(), &value) {
            (ArgAction::SetTrue, Value::Boolean(true)) => vec![format!("--{name}").into()],
            (ArgAction::SetTrue, Value::Boolean(false)) => Vec::new(),
            (ArgAction::SetTrue, other) => return Err(wrong(other.type_str(), "true or false")),
            (ArgAction::Append, Value::Array(items)) => items.iter().map(as_argument).collect::<Result<_, _>>()?,
            (_, Value::Array(_)) => return Err(wrong("array", "one value")),
            (_, value) => vec![as_argument(value)?],
        };
        values.insert(name, arguments);
    }
    Ok(FromFile { path: Some(path.to_owned()), values })
}

/// The options that a settings file can hold.
fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    let is_setting = |argument: &&Arg| {
        argument.get_env().is_some() && argument.get_long().is_some_and(|name| !NOT_IN_FILE.contains(&name))
    };
    command.get_arguments().filter(is_setting)
}

fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| argument.get_long() == Some(name))
}

/// Whether the command line has the option. Exact, as no option of a daemon takes a value that starts with two dashes.
pub(crate) fn is_given(arguments: &[OsString], name: &str) -> bool {
    let flag = format!("--{name}");
    let with_value = format!("{flag}=");
    arguments.iter().skip(1).any(|a| *a == *flag || a.as_encoded_bytes().starts_with(with_value.as_bytes()))
}

fn value_given(arguments: &[OsString], name: &str) -> Option<OsString> {
    let flag = format!("--{name}");
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        if *argument == *flag {
            return rest.next().cloned();
        }
        if let Some(value) = argument.to_str().and_then(|a| a.strip_prefix(&flag)?.strip_prefix('=')) {
            return Some(value.into());
        }
    }
    None
}

/// A commented settings file with every setting, its meaning and default.
fn describe(command: &Command) -> String {
    let mut text = format!("# Settings of {}. The command line and the environment take precedence.\n", command.get_name());
    for argument in settings(command) {
        let Some(name) = argument.get_long() else { continue };
        text.push('\n');
        let help = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string).unwrap_or_default();
        // clap takes the last full stop away.
        let stop = if help.is_empty() || help.ends_with(['.', '!', ':']) { "" } else { "." };
        for line in format!("{help}{stop}").lines() {
            wrap(&mut text, line);
        }
        let many = matches!(argument.get_action(), ArgAction::Append);
        let possible: Vec<String> =
            argument.get_possible_values().iter().filter(|_| !is_flag(argument)).map(|v| v.get_name().to_owned()).collect();
        if !possible.is_empty() {
            wrap(&mut text, &format!("One of: {}.", possible.join(", ")));
        }
        let variable = argument.get_env().map(|v| v.display().to_string()).unwrap_or_default();
        let needed = if argument.is_required_set() { " Required." } else { "" };
        wrap(&mut text, &format!("Environment: {variable}.{needed}"));
        let defaults = argument.get_default_values();
        let value = match defaults {
            _ if is_flag(argument) => "false".to_owned(),
            [] => {
                let placeholder = argument.get_value_names().and_then(<[_]>::first).map_or("...", |name| name.as_str());
                format!("{:?}", format!("<{placeholder}>"))
            }
            [one] if !many => literal(&one.to_string_lossy()),
            several => {
                let several: Vec<String> = several.iter().map(|value| literal(&value.to_string_lossy())).collect();
                format!("[{}]", several.join(", "))
            }
        };
        writeln!(text, "#{name} = {value}").ok();
    }
    text
}

fn is_flag(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::SetTrue)
}

/// A value in TOML.
fn literal(value: &str) -> String {
    if value.parse::<i64>().is_ok() { value.to_owned() } else { Value::String(value.to_owned()).to_string() }
}

/// Comment lines of at most 100 characters.
fn wrap(text: &mut String, line: &str) {
    let mut width = 0;
    for word in line.split_whitespace() {
        let long = word.chars().count() + 1;
        if width == 0 || width + long > 100 {
            text.push_str(if width == 0 { "#" } else { "\n#" });
            width = 1;
        }
        text.push(' ');
        text.push_str(word);
        width += long;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::ValueEnum;
    use proptest::prelude::*;
    use tempfile::NamedTempFile;

    use super::*;

    /// A daemon of tests.
    #[derive(Debug, Parser)]
    #[command(name = "sample", version)]
    struct Sample {
        /// Addresses of nodes.
        #[arg(long, env = "SAMPLE_RPC", default_value = "http://127.0.0.1:8899", value_delimiter = ',')]
        rpc: Vec<String>,
        /// A key file.
        #[arg(long, env = "SAMPLE_KEYPAIR", required_unless_present = "print_it", value_name = "FILE")]
        keypair: Option<PathBuf>,
        /// How many.
        #[arg(long, env = "SAMPLE_PROBES", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        probes: u16,
        /// No GPU.
        #[arg(long, env = "SAMPLE_NO_GPU")]
        no_gpu: bool,
        /// When.
        #[arg(long, env = "SAMPLE_REGISTER", value_enum, default_value_t = When::Missing)]
        register: When,
        /// Print it.
        #[arg(long)]
        print_it: bool,
        #[command(flatten)]
        shared: Shared,
    }

    #[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
    enum When {
        Missing,
        Never,
    }

    impl Settings for Sample {
        fn shared(&self) -> &Shared {
            &self.shared
        }
    }

    fn file(text: &str) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    fn parse(arguments: &[&str]) -> Result<Sample, Stopped> {
        read(["sample"].iter().chain(arguments).map(OsString::from), |_| None)
    }

    #[track_caller]
    fn refused(arguments: &[&str]) -> String {
        match parse(arguments) {
            Err(Stopped::Refused(refusal)) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_file_is_below_the_command_line_and_above_the_default() {
        let file = file(
            "rpc = ['http://a', 'http://b']\nkeypair = '/k'\nprobes = 5\nno-gpu = true\nregister = 'never'\ngrace = '3s'\nmonitor = 9600\n",
        );
        let config = file.path().to_str().unwrap();
        let settings = parse(&["--config", config, "--probes", "6"]).unwrap();
        assert_eq!(settings.rpc, ["http://a", "http://b"]);
        assert_eq!((settings.probes, settings.no_gpu, settings.register), (6, true, When::Never));
        assert_eq!(settings.keypair.as_deref(), Some(Path::new("/k")));
        assert_eq!(settings.shared.grace, Duration::from_secs(3));
        assert_eq!(settings.shared.monitor, Some(([127, 0, 0, 1], 9600).into()));
        let settings = parse(&[&format!("--config={config}"), "--rpc=http://c"]).unwrap();
        assert_eq!((settings.rpc, settings.probes), (vec!["http://c".to_owned()], 5));
        assert_eq!(parse(&["--keypair", "/k"]).unwrap().probes, 8);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_known() {
        let file = file("keypair = '/k'\nprobe = 5\n");
        let text = refused(&["--config", file.path().to_str().unwrap()]);
        assert!(text.contains("no setting `probe`") && text.contains("did you mean `probes`"), "{text}");
        for name in ["config = 'x'", "print-it = true", "print-settings = true"] {
            let file = self::file(name);
            assert!(refused(&["--config", file.path().to_str().unwrap()]).contains("there is no setting"));
        }
    }

    #[test]
    fn a_bad_value_names_the_option_and_where_it_came_from() {
        let bad = file("keypair = '/k'\nprobes = 0\n");
        let path = bad.path().to_str().unwrap();
        let text = refused(&["--config", path]);
        assert!(text.contains("--probes") && text.contains(&format!("came from the settings file {path}")), "{text}");
        let text = refused(&["--config", path, "--probes", "1001"]);
        assert!(text.contains("1001") && text.contains("--probes came from the command line"), "{text}");
        for (content, parts) in [
            ("probes = [1, 2]", ["--probes", "one value"]),
            ("probes = true", ["'true'", "--probes"]),
            ("no-gpu = 'yes'", ["--no-gpu", "true or false"]),
            ("rpc = { a = 1 }", ["--rpc", "a string, a number"]),
            ("probes = ", ["no TOML", "--config"]),
        ] {
            let bad = file(content);
            let text = refused(&["--config", bad.path().to_str().unwrap()]);
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        assert!(refused(&["--config", "/nonexistent"]).contains("--config: cannot read /nonexistent"));
        let text = refused(&[]);
        assert!(text.contains("--keypair is given nowhere") && text.contains("SAMPLE_KEYPAIR"), "{text}");
        let text = refused(&["--keypair", "k", "--monitor", "localhost"]);
        assert!(text.contains("--monitor") && text.contains("expected a port"), "{text}");
    }

    #[test]
    fn a_file_without_end_is_refused() {
        assert!(matches!(parse(&["--config", "/dev/zero"]), Err(Stopped::Refused(Refusal::TooLarge(_)))));
    }

    #[test]
    fn the_printed_file_has_every_setting_and_its_defaults_work() {
        let Err(Stopped::Printed(text)) = parse(&["--print-settings"]) else { panic!("not printed") };
        assert!(text.contains("# Addresses of nodes") && text.contains("# One of: missing, never."), "{text}");
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
        let settings = ["rpc", "keypair", "probes", "no-gpu", "register", "log", "monitor", "grace"];
        assert_eq!(text.lines().filter(|line| line.contains(" = ") && !line.starts_with("# ")).count(), settings.len());
        // Without those that have no default, it says what holds anyway.
        let active: String = text
            .lines()
            .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && !rest.contains("\"<")))
            .map(|line| format!("{line}\n"))
            .collect();
        let file = file(&active);
        let read = parse(&["--keypair", "/k", "--config", file.path().to_str().unwrap()]).unwrap();
        assert_eq!(
            format!("{:?}", Sample { shared: Shared { config: None, ..read.shared }, ..read }),
            format!("{:?}", parse(&["--keypair", "/k"]).unwrap())
        );
    }

    proptest! {
        /// Whatever is in the file: settings, or a refusal that names the file or an option.
        #[test]
        fn no_file_panics(name in "[a-z-]{0,12}|rpc|probes|no-gpu|register|grace", value in "[ -~]{0,20}|[0-9]{1,20}|'[^']{0,9}'|true") {
            let content = format!("{name} = {value}\n");
            let file = file(&content);
            let path = file.path().to_str().unwrap();
            match parse(&["--keypair", "/k", "--config", path]) {
                Ok(_) => {}
                Err(Stopped::Refused(refusal)) => {
                    let text = refusal.to_string();
                    prop_assert!(text.contains(path) || text.contains("--"), "{content}{text}");
                }
                Err(Stopped::Printed(text)) => prop_assert!(false, "{content} printed {text}"),
            }
        }
    }

    #[test]
    fn help_is_printed_even_with_a_file_that_is_gone() {
        let Err(Stopped::Printed(text)) = parse(&["--config", "/nonexistent", "--help"]) else { panic!("not printed") };
        assert!(text.contains("--probes") && text.contains("SAMPLE_PROBES"));
    }
}
