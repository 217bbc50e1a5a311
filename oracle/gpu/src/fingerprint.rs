//! The hardware fingerprint: what a container's registration is bound to.
//!
//! - With GPUs: `sha256("datagalax:fingerprint:v1", "gpu", count u32, then for each card by ascending UUID its length u32 and
//!   the UUID)`. It survives reboots, driver updates, a new disk, another slot and another system; it changes when a card is
//!   added, removed or exchanged.
//! - Without: `sha256("datagalax:fingerprint:v1", "cpu", machine id, model of the processor, threads u32)`, each text preceded
//!   by its length u32. It survives reboots and updates; it changes when the system is installed anew, or when a virtual
//!   machine moves to another processor. Memory is left out: what the kernel reports moves with its version. Cloned images
//!   that share a machine id share a fingerprint: run `systemd-machine-id-setup` in each.
//!
//! The machine id is confidential to the host (systemd asks for that); only this hash of it leaves. A fingerprint proves
//! nothing: it is the host's own word, and two providers may register the same one; only the host that answers gets
//! through checking.

use std::path::{Path, PathBuf};

use datagalax_protocol::{Digest, GpuMetrics};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Where systemd and D-Bus keep the machine id, in order.
const MACHINE_ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// The parts of a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// A host with GPUs, by their UUIDs in any order.
    Gpus(Vec<String>),
    /// A host without.
    Cpu {
        /// 32 hex digits.
        machine_id: String,
        /// Brand string of the processor.
        model: String,
        /// Hardware threads.
        threads: u32,
    },
}

/// Why there is no fingerprint.
#[derive(Debug, Error)]
pub enum FingerprintError {
    /// A host without GPUs and without a machine id.
    #[error(
        "no machine id in {}: run `systemd-machine-id-setup`, or name a file with 32 hex digits of your own",
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
    )]
    NoMachineId(Vec<PathBuf>),
}

impl Hardware {
    /// A host with these cards.
    pub fn of_cards(gpus: &[GpuMetrics]) -> Self {
        Self::Gpus(gpus.iter().map(|gpu| gpu.uuid.clone()).collect())
    }

    /// The fingerprint.
    pub fn fingerprint(&self) -> Digest {
        let mut hasher = Sha256::new_with_prefix(b"datagalax:fingerprint:v1");
        let text = |hasher: &mut Sha256, text: &str| {
            hasher.update((text.len() as u32).to_le_bytes());
            hasher.update(text);
        };
        match self {
            Self::Gpus(uuids) => {
                let mut uuids: Vec<_> = uuids.iter().collect();
                uuids.sort_unstable();
                hasher.update(b"gpu");
                hasher.update((uuids.len() as u32).to_le_bytes());
                for uuid in uuids {
                    text(&mut hasher, uuid);
                }
            }
            Self::Cpu { machine_id, model, threads } => {
                hasher.update(b"cpu");
                text(&mut hasher, machine_id);
                text(&mut hasher, model);
                hasher.update(threads.to_le_bytes());
            }
        }
        hasher.finalize().into()
    }
}

/// The machine id from `file`, or from where the system keeps it.
///
/// # Errors
/// None of the files holds 32 hex digits.
pub fn machine_id(file: Option<&Path>) -> Result<String, FingerprintError> {
    let files = match file {
        Some(file) => vec![file.to_path_buf()],
        None => MACHINE_ID_FILES.iter().map(PathBuf::from).collect(),
    };
    let valid = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .map(|text| text.trim().to_ascii_lowercase())
        .find(|text| valid(text))
        .ok_or(FingerprintError::NoMachineId(files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu() -> Hardware {
        Hardware::Cpu { machine_id: "0123456789abcdef0123456789abcdef".into(), model: "Example".into(), threads: 8 }
    }

    #[test]
    fn the_order_of_cards_does_not_matter_but_each_card_does() {
        let of = |uuids: &[&str]| Hardware::Gpus(uuids.iter().map(ToString::to_string).collect()).fingerprint();
        assert_eq!(of(&["GPU-a", "GPU-b"]), of(&["GPU-b", "GPU-a"]));
        assert_ne!(of(&["GPU-a", "GPU-b"]), of(&["GPU-a", "GPU-c"]));
        assert_ne!(of(&["GPU-a", "GPU-b"]), of(&["GPU-a"]));
        assert_ne!(of(&["GPU-a", "GPU-b"]), of(&["GPU-aGPU-b"]), "lengths separate the texts");
        assert_ne!(of(&[]), cpu().fingerprint());
    }

    #[test]
    fn it_stays_what_it_was() {
        // A changed composition would orphan every registration: these bytes may never change under v1.
        assert_eq!(hex::encode(cpu().fingerprint()), "d96f5d58e52bf9224dd26e8fb4c87b31d80719f2441ddd1fce76a6e581048b75");
        assert_eq!(
            hex::encode(Hardware::Gpus(vec!["GPU-a".into()]).fingerprint()),
            "e027fedc4515711b68953115665b1254f6f999f6461e05edc41daa2ee9e9d415"
        );
    }

    #[test]
    fn a_missing_or_malformed_machine_id_is_an_error_that_says_what_to_do() {
        let file = std::env::temp_dir().join(format!("datagalax-machine-id-{}", std::process::id()));
        let absent = machine_id(Some(&file)).unwrap_err().to_string();
        assert!(absent.contains("systemd-machine-id-setup"), "{absent}");
        for bad in ["", "uninitialized\n", "0123", "zz23456789abcdef0123456789abcdef"] {
            std::fs::write(&file, bad).unwrap();
            assert!(machine_id(Some(&file)).is_err(), "{bad:?}");
        }
        std::fs::write(&file, "0123456789ABCDEF0123456789abcdef\n").unwrap();
        assert_eq!(machine_id(Some(&file)).unwrap(), "0123456789abcdef0123456789abcdef");
        std::fs::remove_file(&file).unwrap();
    }
}
