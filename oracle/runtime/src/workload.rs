//! What is run, within which limits, and how it ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest id in characters.
const MAX_ID: usize = 64;
/// Most words of a command, and most variables of its environment.
const MAX_WORDS: usize = 1_024;
/// Most bytes of a command's words, and of an environment.
const MAX_TEXT: usize = 64 * 1024;
/// Most ports of a workload, and most volumes.
const MAX_NAMED: usize = 16;
/// Longest name of an image, and longest path of a volume, in bytes.
const MAX_NAME: usize = 255;

/// Names a lease: letters and digits, as the address of its account. It is a folder's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Id {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fine = (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fine.then(|| Self(text.to_owned())).ok_or(Invalid("the id must be 1 to 64 letters and digits"))
    }
}

impl TryFrom<String> for Id {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

/// Why a workload cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// What a workload may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory (resident) of all its processes together. One process alone cannot even ask for more.
    pub memory: u64,
    /// Bytes on disk in its folder, and in its volumes together with it; also the largest image, in bytes.
    pub disk: u64,
    /// Thousandths of a processor core; 0: no bound. Containers only.
    pub millicores: u64,
    /// Processes (and threads, where the workload has a user of its own) at a time.
    pub processes: u64,
    /// Open files of a process.
    pub files: u64,
    /// Bytes of output that are kept: the newest.
    pub log: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 4 << 30, disk: 16 << 30, millicores: 0, processes: 512, files: 4_096, log: 16 << 20 }
    }
}

/// A port that the workload listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Upper-case letters, digits and underscores.
    pub name: String,
    /// The number inside a container; 0: the runtime chooses, as it always does for plain processes.
    pub number: u16,
}

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// An OCI image pinned by its digest, `name[:tag]@sha256:<64 hex digits>`; `None`: a plain process.
    pub image: Option<String>,
    /// Program and arguments; the program is looked up in the workload's own PATH. With an image it may be empty: the image's own.
    pub command: Vec<String>,
    /// Its environment; nothing of the agent's is in it.
    pub environment: BTreeMap<String, String>,
    /// The workload listens on the port that it finds in the variable `PORT_<name>`: on the loopback address as a plain process,
    /// on all addresses in a container.
    pub ports: Vec<Port>,
    /// Absolute paths inside a container whose files are on disk and not in its image.
    pub volumes: Vec<String>,
    /// Whether a container gets the host's GPUs. A plain process finds what the host's drivers let it.
    pub gpus: bool,
    /// What it may use.
    pub limits: Limits,
}

impl Workload {
    /// Checks the documented ranges.
    ///
    /// # Errors
    /// The first thing that is out of range.
    pub fn check(&self) -> Result<(), Invalid> {
        let no_nul = |text: &String| !text.contains('\0');
        let Self { image, command, environment, ports, volumes, gpus: _, limits } = self;
        let program = command.first().is_some_and(|program| !program.is_empty());
        let image_decides = image.is_some() && command.is_empty();
        if !(program || image_decides) || command.len() > MAX_WORDS || !command.iter().all(no_nul) {
            return Err(Invalid("the command must be 1 to 1,024 words without NUL, the first of them a program"));
        }
        let name = |text: &String| {
            let rest = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            !text.is_empty() && text.len() <= 64 && text.bytes().all(rest) && !text.as_bytes()[0].is_ascii_digit()
        };
        if environment.len() > MAX_WORDS || !environment.keys().all(name) || !environment.values().all(no_nul) {
            return Err(Invalid(
                "the environment's names must be letters, digits and underscores, at most 64, its values without NUL",
            ));
        }
        let words: usize = command.iter().chain(environment.keys()).chain(environment.values()).map(String::len).sum();
        if words > MAX_TEXT {
            return Err(Invalid("command and environment must be at most 64 KiB together"));
        }
        if image.as_ref().is_some_and(|image| image.len() > MAX_NAME || !image.contains("@sha256:")) {
            return Err(Invalid("the image must be pinned by its digest: name@sha256:<64 hex digits>, at most 255 bytes"));
        }
        let upper = |port: &Port| name(&port.name) && port.name == port.name.to_ascii_uppercase();
        let distinct = ports.iter().map(|port| &port.name).collect::<BTreeSet<_>>().len() == ports.len();
        if ports.len() > MAX_NAMED || !distinct || !ports.iter().all(upper) {
            return Err(Invalid("there may be 16 ports, each named once by upper-case letters, digits and underscores"));
        }
        let distinct = volumes.iter().collect::<BTreeSet<_>>().len() == volumes.len();
        if volumes.len() > MAX_NAMED || !distinct || !volumes.iter().all(|path| is_inside(path)) {
            return Err(Invalid(
                "there may be 16 volumes, each once an absolute path of at most 255 bytes without . and .. and not / itself",
            ));
        }
        let least = limits.memory >= 1 << 20 && limits.disk >= 1 << 16 && limits.processes >= 1 && limits.files >= 16;
        if !least || limits.log < 1 << 12 {
            return Err(Invalid(
                "the limits must be at least 1 MiB of memory, 64 KiB of disk, 1 process, 16 files, 4 KiB of log",
            ));
        }
        Ok(())
    }
}

fn is_inside(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.len() <= MAX_NAME && rest.split('/').all(sound) && !path.contains(['\0', ':', ','])
}

/// How a workload ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By a signal that nobody here sent.
    Signalled(i32),
    /// It used more than it may; what, and how much.
    OverLimit(String),
    /// It was stopped.
    Stopped,
    /// It did not start.
    NotStarted(String),
    /// Its supervisor ended without a word, as when the host was restarted. Nothing of it runs.
    Lost,
}

/// Where a workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing of it is here.
    Absent,
    /// It runs.
    Running,
    /// It has ended; its files and output are still here.
    Ended(End),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_folders_and_nothing_else() {
        assert_eq!("7xKX".parse::<Id>().unwrap().as_str(), "7xKX");
        for bad in ["", ".", "..", "a/b", "a b", "a\0", &"a".repeat(65), "ä"] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Id>("\"../x\"").is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let port = |name: &str| Port { name: name.into(), number: 0 };
        let good = Workload {
            image: Some("a@sha256:b".into()),
            command: vec!["true".into()],
            environment: BTreeMap::from([("A_1".into(), "x".into())]),
            ports: vec![port("HTTP")],
            volumes: vec!["/data".into()],
            gpus: true,
            limits: Limits::default(),
        };
        good.check().unwrap();
        Workload { command: vec![], ..good.clone() }.check().unwrap();
        let refused = |change: &dyn Fn(&mut Workload)| {
            let mut bad = good.clone();
            change(&mut bad);
            bad.check().is_err()
        };
        assert!(refused(&|w| (w.image, w.command) = (None, vec![])));
        assert!(refused(&|w| w.command[0].clear()));
        assert!(refused(&|w| w.command.push("a\0b".into())));
        assert!(refused(&|w| w.command.push("x".repeat(70_000))));
        assert!(refused(&|w| drop(w.environment.insert("1A".into(), String::new()))));
        assert!(refused(&|w| drop(w.environment.insert("A=B".into(), String::new()))));
        assert!(refused(&|w| w.ports.push(port("http"))));
        assert!(refused(&|w| w.ports.push(port("HTTP"))));
        assert!(refused(&|w| w.ports = (0..17).map(|i| port(&format!("P{i}"))).collect()));
        assert!(refused(&|w| w.image = Some("a:latest".into())));
        assert!(refused(&|w| w.image = Some(format!("{}@sha256:b", "a".repeat(255)))));
        for path in ["", "/", "a", "/a/", "/a//b", "/../a", "/a:b", "/data"] {
            assert!(refused(&|w| w.volumes.push(path.into())), "{path}");
        }
        assert!(refused(&|w| w.limits.processes = 0));
        assert!(refused(&|w| w.limits.memory = 1_000));
    }
}
