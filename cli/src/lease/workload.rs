//! The workload from the command line.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use datagalax_protocol::lease::{MAX_WORKLOAD, Port, Workload};

use super::size;

/// What is run, and with what.
#[derive(Args, Clone, Debug, Default)]
pub struct WorkloadOptions {
    /// OCI image pinned by its digest, name@sha256:<64 hex digits>; without it the command runs as a plain process of the host
    #[arg(long, value_name = "NAME@DIGEST")]
    pub image: Option<String>,
    /// A variable of its environment; NAME alone takes this shell's value
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// File of variables, one NAME=VALUE a line, # for comments; --env and --secret stand above it
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// A variable whose value is a file's content, without a last line feed; it is never on a command line or on chain
    #[arg(long, value_name = "NAME=@FILE")]
    pub secret: Vec<String>,
    /// A port it listens on: its name, and in a container its number; it finds the number in PORT_<NAME>
    #[arg(long, value_parser = port, value_name = "NAME[:NUMBER]")]
    pub port: Vec<Port>,
    /// Folder inside the container whose files outlive a restart; gone with the lease; only with --image
    #[arg(long, value_name = "PATH")]
    pub volume: Vec<String>,
    /// Most memory it may use, such as 4GiB; without it, all that the host gives to leases
    #[arg(long, value_parser = size::parse, value_name = "SIZE")]
    pub memory: Option<u64>,
    /// Most disk it may use, such as 20GiB; without it, all that the host gives to leases
    #[arg(long, value_parser = size::parse, value_name = "SIZE")]
    pub disk: Option<u64>,
    /// Program and arguments, behind `--`; with --image it may be left out: the image's own
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl WorkloadOptions {
    /// The workload, with this salt.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn workload(&self, salt: [u8; 32]) -> Result<Workload> {
        ensure!(
            self.image.is_some() || !self.command.is_empty(),
            "say what to run: a command behind `--`, as in `-- python train.py`, or an image with --image"
        );
        if let Some(image) = &self.image {
            pinned(image)?;
        }
        let mut ports = self.port.clone();
        ports.sort();
        if let Some(twice) = ports.windows(2).find(|pair| pair[0].name == pair[1].name) {
            bail!("--port {} is given twice: name each port once", twice[0].name);
        }
        let volumes: BTreeSet<String> = self.volume.iter().cloned().collect();
        let workload = Workload {
            salt,
            image: self.image.clone(),
            command: self.command.clone(),
            environment: self.environment(|name| env::var(name).ok())?,
            ports,
            volumes: volumes.into_iter().collect(),
            memory: self.memory.unwrap_or(0),
            disk: self.disk.unwrap_or(0),
        };
        workload.check().map_err(|invalid| anyhow::anyhow!("this workload cannot be leased: {invalid}"))?;
        Ok(workload)
    }

    fn environment(&self, own: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        for path in &self.env_file {
            let text = bounded(path)?;
            for (number, line) in (1..).zip(text.lines()) {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let pair = line.split_once('=');
                let (name, value) = pair.with_context(|| format!("line {number} of {} is no NAME=VALUE", path.display()))?;
                all.insert(name.trim().to_owned(), value.to_owned());
            }
        }
        let mut named = BTreeSet::new();
        let mut set = |name: &str, value: String| {
            ensure!(named.insert(name.to_owned()), "the variable {name} is given twice: use --env or --secret once");
            all.insert(name.to_owned(), value);
            Ok(())
        };
        for given in &self.env {
            match given.split_once('=') {
                Some((name, value)) => set(name, value.to_owned())?,
                None => {
                    let value = own(given);
                    set(
                        given,
                        value.with_context(|| {
                            format!("--env {given}: this shell has no such variable; write {given}=VALUE")
                        })?,
                    )?;
                }
            }
        }
        for given in &self.secret {
            let (name, path) = given.split_once("=@").with_context(|| {
                let name = given.split('=').next().unwrap_or_default();
                format!("--secret {name}: name a file, as in {name}=@path: a value here would be readable in the list of processes")
            })?;
            let value = bounded(Path::new(path))?;
            set(name, value.strip_suffix('\n').map(|v| v.strip_suffix('\r').unwrap_or(v)).unwrap_or(&value).to_owned())?;
        }
        Ok(all)
    }
}

/// A text file that can be part of a workload.
fn bounded(path: &Path) -> Result<String> {
    let name = path.display();
    let length = fs::metadata(path).with_context(|| format!("{name} cannot be read"))?.len();
    ensure!(length <= MAX_WORKLOAD as u64, "{name} is {length} bytes long: a whole workload is at most {MAX_WORKLOAD}");
    fs::read_to_string(path).with_context(|| format!("{name} cannot be read as text"))
}

/// Refuses an image without a digest, with how to find it.
fn pinned(image: &str) -> Result<()> {
    if image.contains("@sha256:") {
        return Ok(());
    }
    bail!(
        "the image {image} is not pinned: a tag can be another image tomorrow, and the lease holds for one. Find its digest with one of\n  \
         docker buildx imagetools inspect {image}\n  \
         skopeo inspect --format '{{{{.Digest}}}}' docker://{image}\n  \
         docker image inspect --format '{{{{index .RepoDigests 0}}}}' {image}    (once it is pulled or pushed)\n\
         and write --image {image}@sha256:<digest>"
    )
}

/// A port on the command line.
fn port(text: &str) -> Result<Port, String> {
    let (name, number) = match text.split_once(':') {
        None => (text, 0),
        Some((name, number)) => {
            let parsed: Option<u16> = number.parse().ok().filter(|number| *number > 0);
            (name, parsed.ok_or_else(|| format!("`{number}` is no port number: write 1 to 65535"))?)
        }
    };
    Ok(Port { name: port_name(name)?, number })
}

/// A port's name as workloads write it: in upper case.
///
/// # Errors
/// A sentence.
pub fn port_name(text: &str) -> Result<String, String> {
    let name = text.to_ascii_uppercase();
    let sound = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let begins = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if sound && begins && name.len() <= 64 {
        Ok(name)
    } else {
        Err(format!("`{text}` is no name of a port: letters, digits and underscores, not beginning with a digit"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: WorkloadOptions,
    }

    fn parsed(words: &[&str]) -> Result<Workload> {
        let words = [&["run"], words].concat();
        Line::try_parse_from(words)?.options.workload([7; 32])
    }

    #[test]
    fn options_become_the_workload() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let file = path("env", "# a comment\n\nA=from file\nB=kept=as it is\n");
        let token = format!("TOKEN=@{}", path("token", "s3cret\n"));
        let image = format!("a.example/b:1@sha256:{}", "0f".repeat(32));
        let workload = parsed(&[
            "--image",
            &image,
            "--env-file",
            &file,
            "--env",
            "A=1",
            "--secret",
            &token,
            "--port",
            "web:80",
            "--port",
            "API",
            "--volume",
            "/b",
            "--volume",
            "/a",
            "--memory",
            "4GiB",
            "--disk",
            "1G",
            "--",
            "sh",
            "-c",
            "echo --env",
        ])
        .unwrap();
        let variables: Vec<_> = workload.environment.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(variables, [("A", "1"), ("B", "kept=as it is"), ("TOKEN", "s3cret")]);
        let ports: Vec<_> = workload.ports.iter().map(|p| (p.name.as_str(), p.number)).collect();
        assert_eq!(ports, [("API", 0), ("WEB", 80)]);
        assert_eq!((workload.volumes, workload.command.len()), (vec!["/a".to_owned(), "/b".to_owned()], 3));
        assert_eq!((workload.memory, workload.disk, workload.salt), (4 << 30, 1 << 30, [7; 32]));
        assert_eq!(parsed(&["--", "true"]).unwrap().image, None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let refused = |words: &[&str]| format!("{:#}", parsed(words).unwrap_err());
        let unpinned = refused(&["--image", "ubuntu:24.04"]);
        assert!(unpinned.contains("imagetools inspect ubuntu:24.04") && unpinned.contains("{{.Digest}}"), "{unpinned}");
        assert!(refused(&["--image", "ubuntu@sha256:12"]).contains("64 hex digits"));
        assert!(refused(&[]).contains("--image"));
        assert!(refused(&["--env", "A=1", "--env", "A=2", "--", "x"]).contains("A is given twice"));
        assert!(refused(&["--env", "NO_SUCH_VARIABLE_HERE", "--", "x"]).contains("NO_SUCH_VARIABLE_HERE=VALUE"));
        let secret = refused(&["--secret", "A=plain", "--", "x"]);
        assert!(secret.contains("A=@path") && !secret.contains("plain"), "{secret}");
        assert!(refused(&["--secret", "A=@/no/such/file", "--", "x"]).contains("/no/such/file"));
        assert!(refused(&["--port", "a", "--port", "A:80", "--", "x"]).contains("--port A is given twice"));
        assert!(refused(&["--port", "1a", "--", "x"]).contains("no name of a port"));
        assert!(refused(&["--port", "a:0", "--", "x"]).contains("no port number"));
        assert!(refused(&["--volume", "/a", "--", "x"]).contains("image"));
        assert!(refused(&["--memory", "4", "--", "x"]).contains("24GiB"));
    }
}
