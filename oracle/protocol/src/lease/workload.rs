//! What a user has a container run.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::{Digest, sha256};

/// Longest encoded workload in bytes: it fits into a message.
pub const MAX_WORKLOAD: usize = 48 * 1024;
/// Most words of a command, and most variables of its environment.
const MAX_WORDS: usize = 1_024;
/// Most ports, and most volumes.
const MAX_NAMED: usize = 16;
/// Longest name of an image, and longest path of a volume, in bytes.
const MAX_NAME: usize = 255;

/// What is hashed first, so that no other hash of the project can be one of a workload.
const DOMAIN: &[u8] = b"datagalax:lease-workload:v1";

/// Why a workload cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// A port that the workload listens on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Port {
    /// Upper-case letters, digits and underscores, 1 to 64, not beginning with a digit; unique. The workload finds the port's
    /// number in the variable `PORT_<name>`.
    pub name: String,
    /// The number inside an OCI container, 1 to 65,535; 0: the host chooses. A plain process always listens where the host chooses.
    pub number: u16,
}

/// What is run. Its hash is in the lease on chain, so that neither side can say later that it was another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Workload {
    /// Random: nobody can guess the secrets in the environment by trying which give the hash on chain.
    pub salt: [u8; 32],
    /// An OCI image pinned by its digest, `name[:tag]@sha256:<64 hex digits>`; `None` runs a plain process of the host.
    pub image: Option<String>,
    /// Program and arguments; with an image it may be empty: the image's own.
    pub command: Vec<String>,
    /// Environment, secrets included. Nothing of the host's is added but the ports.
    pub environment: BTreeMap<String, String>,
    /// Ports to be reached by the user, ascending by name.
    pub ports: Vec<Port>,
    /// Absolute paths inside an OCI container whose files outlive a restart of the workload; ascending. They are gone with the lease.
    pub volumes: Vec<String>,
    /// Bytes of memory it may use; 0: all that the host gives to leases.
    pub memory: u64,
    /// Bytes on disk it may use; 0: all that the host gives to leases.
    pub disk: u64,
}

impl Workload {
    /// What stands in the lease on chain.
    pub fn hash(&self) -> Digest {
        // Writing to a Vec cannot fail.
        sha256(&[DOMAIN, &borsh::to_vec(self).expect("borsh to memory")])
    }

    /// Checks the documented ranges.
    ///
    /// # Errors
    /// The first thing that is out of range.
    pub fn check(&self) -> Result<(), Invalid> {
        let no_nul = |text: &String| !text.contains('\0');
        let program = self.command.first().is_some_and(|program| !program.is_empty());
        let image_decides = self.image.is_some() && self.command.is_empty();
        if !(program || image_decides) || self.command.len() > MAX_WORDS || !self.command.iter().all(no_nul) {
            return Err(Invalid("the command must be 1 to 1,024 words without NUL, the first of them a program"));
        }
        if self.image.as_deref().is_some_and(|image| !is_pinned(image)) {
            return Err(Invalid(
                "the image must be pinned by its digest: name@sha256:<64 hex digits>, in lower case, at most 255 bytes",
            ));
        }
        if self.environment.len() > MAX_WORDS
            || !self.environment.keys().all(|name| is_name(name))
            || !self.environment.values().all(no_nul)
        {
            return Err(Invalid(
                "the environment's names must be letters, digits and underscores, at most 64, its values without NUL",
            ));
        }
        let upper = |name: &str| is_name(name) && !name.bytes().any(|byte| byte.is_ascii_lowercase());
        let ascending = self.ports.is_sorted_by(|a, b| a.name < b.name);
        if self.ports.len() > MAX_NAMED || !ascending || !self.ports.iter().all(|port| upper(&port.name)) {
            return Err(Invalid(
                "there may be 16 ports, ascending, each named once by upper-case letters, digits and underscores",
            ));
        }
        let ascending = self.volumes.is_sorted_by(|a, b| a < b);
        if self.volumes.len() > MAX_NAMED || !ascending || !self.volumes.iter().all(|path| is_inside(path)) {
            return Err(Invalid(
                "there may be 16 volumes, ascending, each an absolute path without . and .. and not / itself",
            ));
        }
        if self.image.is_none() && !self.volumes.is_empty() {
            return Err(Invalid("only a workload with an image can have volumes: a plain process keeps its folder"));
        }
        if borsh::to_vec(self).map_or(usize::MAX, |bytes| bytes.len()) > MAX_WORKLOAD {
            return Err(Invalid("the workload must be at most 48 KiB in all"));
        }
        Ok(())
    }
}

/// Letters, digits and underscores, 1 to 64, not beginning with a digit.
fn is_name(text: &str) -> bool {
    let rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    rest && (1..=64).contains(&text.len()) && !text.as_bytes()[0].is_ascii_digit()
}

/// `name[:tag]@sha256:<64 hex digits>`.
fn is_pinned(image: &str) -> bool {
    let Some((name, digest)) = image.split_once("@sha256:") else { return false };
    let hex = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    hex && begins && image.len() <= MAX_NAME && name.bytes().all(sound)
}

fn is_inside(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.len() <= MAX_NAME && rest.split('/').all(sound) && !path.contains(['\0', ':', ','])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Workload {
        Workload {
            image: Some(format!("a.example:5000/b/c:1@sha256:{}", "0f".repeat(32))),
            environment: BTreeMap::from([("A_1".into(), "x".into())]),
            ports: vec![Port { name: "A".into(), number: 1 }, Port { name: "B".into(), number: 0 }],
            volumes: vec!["/a".into(), "/a/b".into()],
            ..Workload::default()
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        good().check().unwrap();
        let process = Workload { command: vec!["true".into()], ..Workload::default() };
        process.check().unwrap();
        let refused = |change: &dyn Fn(&mut Workload)| {
            let mut bad = good();
            change(&mut bad);
            assert_ne!(bad.hash(), good().hash(), "what differs has another hash");
            bad.check().is_err()
        };
        let digest = "0f".repeat(32);
        for image in [
            "a".to_owned(),
            "a:latest".to_owned(),
            format!("@sha256:{digest}"),
            format!("a@sha256:{}", &digest[1..]),
            format!("a@sha256:{}", digest.to_uppercase()),
            format!("a b@sha256:{digest}"),
            format!("{}@sha256:{digest}", "a".repeat(200)),
            format!("-a@sha256:{digest}"),
        ] {
            assert!(refused(&|w| w.image = Some(image.clone())), "{image}");
        }
        assert!(refused(&|w| w.image = None), "no command");
        assert!(refused(&|w| w.command = vec![String::new()]));
        assert!(refused(&|w| w.command = vec!["a\0b".into()]));
        assert!(refused(&|w| w.command = vec!["x".repeat(50_000)]));
        assert!(refused(&|w| drop(w.environment.insert("1A".into(), String::new()))));
        assert!(refused(&|w| drop(w.environment.insert("A=B".into(), String::new()))));
        assert!(refused(&|w| w.ports.reverse()));
        assert!(refused(&|w| w.ports[1].name = "A".into()));
        assert!(refused(&|w| w.ports[0].name = "a".into()));
        for path in ["", "/", "b", "/b/", "/b//c", "/../b", "/b:c", "/a"] {
            assert!(refused(&|w| w.volumes.push(path.into())), "{path}");
        }
        let volumes = Workload { volumes: vec!["/a".into()], ..process };
        assert!(volumes.check().is_err(), "a plain process has none");
    }
}
