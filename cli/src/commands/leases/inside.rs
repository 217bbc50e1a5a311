//! Getting into a running lease: its output, commands, ports and files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use datagalax_client::Address;
use datagalax_protocol::lease::ExecOutput;
use futures_util::{StreamExt as _, future::join_all};
use tokio::{
    fs::File,
    io::{AsyncWriteExt as _, copy, stderr, stdin, stdout},
};

use crate::{
    context::Context,
    interrupts::Interrupts,
    lease::{
        coming_up, follow,
        follow::{Following, Step, printable},
        forward::{Forward, Listening},
        host, kept, reason,
    },
    progress::Steps,
    report::{Cell, Report},
};

/// What of the output.
#[derive(Args)]
pub struct Logs {
    /// Lease's address
    lease: Address,
    /// Go on until the workload has ended, over broken connections too
    #[arg(short, long)]
    follow: bool,
    /// Begin after so many bytes
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    from: u64,
}

impl Logs {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let (tenant, _) = host::of(&context.reader, &std::sync::Arc::new(context.load_key()?), &self.lease).await?;
        let mut frames = tenant.logs(self.from, self.follow);
        let mut following = Following::from(self.from);
        let mut out = stdout();
        while let Some(frame) = frames.next().await {
            match following.take(frame?) {
                Step::Write(bytes, said) => {
                    if let Some(said) = said {
                        eprintln!("note: {said}");
                    }
                    if out.write_all(&bytes).await.is_err() || out.flush().await.is_err() {
                        // `datagalax lease logs ... | head` has what it wants.
                        return Ok(Report::new());
                    }
                }
                Step::Say(text) => eprintln!("note: {text}"),
                Step::Ended(end) => {
                    let (status, sentence) = follow::status(&end);
                    eprintln!("note: {}", sentence.unwrap_or_else(|| format!("it ended with status {status}")));
                }
                Step::Again(why) => bail!("the output breaks off at byte {}: {why}", following.offset()),
            }
        }
        Ok(Report::new())
    }
}

/// What is run.
#[derive(Args)]
pub struct Exec {
    /// Lease's address
    lease: Address,
    /// Program and arguments, behind `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Exec {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let (tenant, _) = host::of(&context.reader, &std::sync::Arc::new(context.load_key()?), &self.lease).await?;
        let datagalax_tenant::Exec { stdin: mut far, mut output } = tenant.exec(&self.command).await?;
        // It may wait for input for ever; the command's end ends it.
        let input = tokio::spawn(async move {
            // The command may not want all of it.
            let _ = copy(&mut stdin(), &mut far).await;
            let _ = far.shutdown().await;
            far
        });
        let (mut out, mut err) = (stdout(), stderr());
        let outcome = loop {
            match output.next().await {
                Some(Ok(ExecOutput::Stdout(bytes))) => {
                    if out.write_all(&bytes).await.is_err() || out.flush().await.is_err() {
                        break Ok(Report::new());
                    }
                }
                Some(Ok(ExecOutput::Stderr(bytes))) => {
                    err.write_all(&bytes).await?;
                    err.flush().await?;
                }
                Some(Ok(ExecOutput::Exited(status))) => {
                    // -1 stands for a signal, which is not named.
                    let status = if status < 0 { 128 } else { u8::try_from(status & 0xff).unwrap_or(u8::MAX) };
                    break Ok(Report::new().ends_with(status));
                }
                Some(Ok(ExecOutput::Failed(why))) => {
                    eprintln!("error: it could not be run: {}", printable(&why));
                    break Ok(Report::new().ends_with(follow::NOT_RUN));
                }
                Some(Err(error)) => break Err(error.into()),
                None => bail!("the command's output broke off"),
            }
        };
        input.abort();
        outcome
    }
}

/// Which ports.
#[derive(Args)]
pub struct Ports {
    /// Lease's address
    lease: Address,
    /// A port's name, and the port of this machine that it is to have; without any, the names are listed
    #[arg(value_name = "NAME[:LOCAL]")]
    ports: Vec<Forward>,
}

impl Ports {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let (tenant, _) = host::of(&context.reader, &std::sync::Arc::new(context.load_key()?), &self.lease).await?;
        let names = tenant.status().await?.ports;
        if self.ports.is_empty() {
            let rows = names.iter().map(|name| vec![Cell::from(printable(name))]).collect();
            let example = names.first().map_or("<NAME>".to_owned(), |name| printable(name));
            let note = format!("Reach one with `datagalax lease ports {} {example}`.", self.lease);
            return Ok(Report::new().rows("ports", &["name"], rows).note(note));
        }
        for port in &self.ports {
            ensure!(names.contains(&port.name), "the workload has no port {}: it has {}", port.name, names.join(", "));
        }
        let interrupts = Interrupts::listen()?;
        let listening = join_all(self.ports.iter().map(Listening::at)).await.into_iter().collect::<Result<Vec<_>>>()?;
        listening.iter().for_each(|one| eprintln!("{}", one.shown()));
        eprintln!("until Ctrl-C");
        tokio::select! {
            _ = join_all(listening.into_iter().map(|one| one.serve(tenant.clone()))) => {}
            () = interrupts.asked(1) => {}
        }
        Ok(Report::new())
    }
}

/// From where to where.
#[derive(Args)]
pub struct Copy {
    /// A file: a path here, or LEASE:path relative to the workload's folder
    from: Place,
    /// Where to: the other of the two
    to: Place,
}

/// A file here or in a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Here(PathBuf),
    Lease(Address, String),
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lease = text.split_once(':').and_then(|(lease, path)| Some((lease.parse().ok()?, path)));
        match lease {
            Some((_, "")) => Err(format!("`{text}` names no file: write LEASE:path")),
            Some((lease, path)) => Ok(Self::Lease(lease, path.to_owned())),
            None => Ok(Self::Here(text.into())),
        }
    }
}

impl Copy {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let key = std::sync::Arc::new(context.load_key()?);
        let (lease, far, near, bytes) = match (self.from, self.to) {
            (Place::Here(near), Place::Lease(lease, far)) => {
                let file = File::open(&near).await.with_context(|| format!("{} cannot be read", near.display()))?;
                let meta = file.metadata().await?;
                ensure!(meta.is_file(), "{} is no file: only files are copied", near.display());
                let (tenant, _) = host::of(&context.reader, &key, &lease).await?;
                tenant.copy_in(&far, file).await?;
                (lease, far, near, meta.len())
            }
            (Place::Lease(lease, far), Place::Here(near)) => {
                let near = if near.is_dir() { near.join(name_of(&far)?) } else { near };
                let (tenant, _) = host::of(&context.reader, &key, &lease).await?;
                // Beside it first: half a file never stands under its name.
                let half = PathBuf::from(format!("{}.half", near.display()));
                let mut file = File::create(&half).await.with_context(|| format!("{} cannot be written", half.display()))?;
                let copied = tenant.copy_out(&far, &mut file).await;
                let done = match copied {
                    Ok(bytes) => tokio::fs::rename(&half, &near).await.map(|()| bytes).map_err(anyhow::Error::from),
                    Err(error) => Err(error.into()),
                };
                if done.is_err() {
                    // What is there is not what was asked for.
                    let _ = tokio::fs::remove_file(&half).await;
                }
                (lease, far, near, done?)
            }
            _ => bail!("name one file here and one in a lease, as in `datagalax lease cp <LEASE>:out.bin out.bin`"),
        };
        let fields = vec![
            ("lease", lease.into()),
            ("far", far.into()),
            ("near", near.display().to_string().into()),
            ("bytes", bytes.into()),
        ];
        Ok(Report::new().fields("copied", fields))
    }
}

fn name_of(path: &str) -> Result<&std::ffi::OsStr> {
    Path::new(path).file_name().with_context(|| format!("{path} names no file"))
}

/// Which workload.
#[derive(Args)]
pub struct HandOver {
    /// Lease's address
    lease: Address,
    /// File of the workload; without it, the one that was kept when the lease was opened
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
}

impl HandOver {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let signing = context.signer().await?;
        let (tenant, seen) = host::of(&context.reader, signing.key(), &self.lease).await?;
        let hash = &seen.lease.workload_hash;
        let workload = match &self.workload {
            Some(path) => kept::read(path, hash)?,
            None => context.leases()?.get(&self.lease, hash)?,
        };
        let steps = Steps::new();
        let tell = |text: String| steps.goes_on(text);
        if seen.lease.status == datagalax::state::Lease::STARTED {
            tenant.hand_over(&workload).await?;
        }
        let up = coming_up::bring_up(&context.reader, &signing, &tenant, &self.lease, &workload, tell).await?;
        let fields = vec![("address", self.lease.into()), ("state", reason::state(&up.seen.lease).into())];
        let mut report = Report::new().fields("lease", fields);
        if let Some(sentence) = reason::sentence(&up.seen.lease) {
            report = report.note(sentence).ends_with(1);
        }
        if let Some(why) = up.refusal {
            report = report.note(format!("Its host says: {why}."));
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_here_or_in_a_lease() {
        let lease = Address::new_from_array([9; 32]);
        let read = |text: &str| text.parse::<Place>();
        assert_eq!(read(&format!("{lease}:a/b")), Ok(Place::Lease(lease, "a/b".into())));
        assert_eq!(read("a:b"), Ok(Place::Here("a:b".into())));
        assert_eq!(read("/tmp/x"), Ok(Place::Here("/tmp/x".into())));
        assert!(read(&format!("{lease}:")).unwrap_err().contains("LEASE:path"));
        assert_eq!(name_of("a/b.txt").unwrap(), "b.txt");
        assert!(name_of("..").is_err());
    }
}
