//! The supervisor of one lease: starts its workload, keeps its limits, and ends it with everything that it started. A process
//! of its own, so that an agent may restart meanwhile; it holds the lock of the lease's folder as long as it lives.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{
        Pid, Resource, Rlimit, Signal, WaitOptions, getpid, kill_process_group, set_child_subreaper, setrlimit, setsid, wait,
    },
    thread::set_no_new_privs,
};
use serde::{Deserialize, Serialize};

use crate::{
    Id,
    log::Writer,
    members::{self, Lease, MARK},
    record::{read, write},
    workload::{End, Workload},
};

/// What the supervisor is told, in its folder.
pub(crate) const SPEC: &str = "spec.json";
/// Locked while the supervisor lives; holds its process id.
pub(crate) const LOCK: &str = "lock";
/// The workload began; holds its ports.
pub(crate) const BEGAN: &str = "began.json";
/// The workload ended; how.
pub(crate) const END: &str = "end.json";
/// Asks for the end; holds the grace period.
pub(crate) const STOP: &str = "stop.json";
/// The workload's own folder.
pub(crate) const HOME: &str = "home";

/// Longest that the lock is held by who only looks whether somebody holds it.
const LOOKS: Duration = Duration::from_secs(1);
/// How often the supervisor looks around.
const TICK: Duration = Duration::from_millis(50);
/// How often it looks at memory and processes; longer where that takes long.
const LOOK: Duration = Duration::from_millis(100);
/// How often it walks the workload's folder; longer for a folder that takes long to walk.
const WALK: Duration = Duration::from_millis(500);
/// Longest wait for output once everything of the workload has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Where programs are looked for.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A lease as it is kept in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub id: Id,
    pub workload: Workload,
    /// The user that only this lease has; `None`: the agent's own.
    pub uid: Option<u32>,
}

impl Spec {
    pub(crate) fn lease(&self) -> Lease {
        Lease { id: self.id.clone(), uid: self.uid }
    }

    /// A command with the lease's rights, limits, folder and environment, in a process group of its own.
    pub(crate) fn command(&self, folder: &Path, words: &[String], ports: &BTreeMap<String, u16>) -> Command {
        let home = folder.join(HOME);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&home).env_clear();
        command.env("PATH", SEARCH).env("HOME", &home).env("TMPDIR", &home).envs(&self.workload.environment);
        command.envs(ports.iter().map(|(name, port)| (format!("PORT_{name}"), port.to_string())));
        // Last, so that the workload cannot set it otherwise.
        command.env(MARK, self.id.as_str()).process_group(0);
        if let Some(uid) = self.uid {
            // Supplementary groups are dropped with it.
            command.uid(uid).gid(uid);
        }
        let limits = self.workload.limits;
        // The system counts by user: beside a workload without one of its own, whatever else its user runs now.
        let others = if self.uid.is_none() { members::threads_of_own_user() } else { 0 };
        let processes = limits.processes.saturating_add(others);
        let limit = move || {
            let set = |resource, most: u64| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
            set(Resource::Core, 0)?;
            set(Resource::Nofile, limits.files)?;
            set(Resource::Fsize, limits.disk)?;
            set(Resource::Data, limits.memory)?;
            set(Resource::Nproc, processes)?;
            // No set-user-ID program lends it another's rights.
            set_no_new_privs(true)?;
            io::Result::Ok(())
        };
        // SAFETY: between fork and exec it makes system calls only, and allocates nothing.
        unsafe { command.pre_exec(limit) };
        command
    }
}

/// How long a workload gets to end politely.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub grace_ms: u64,
}

/// The supervisor's whole life, for the folder that its only argument names. Returns its exit status.
pub fn main() -> u8 {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("datagalax-shim supervises one lease's workload; the agent starts it. Usage: datagalax-shim <folder>");
        return 64;
    };
    match supervise(&folder) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("datagalax-shim: {}: {error}", folder.display());
            1
        }
    }
}

fn supervise(folder: &Path) -> io::Result<()> {
    let mut lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK))?;
    // Held longer: another one is there already. For a moment: somebody looks whether one is.
    let since = Instant::now();
    while let Err(error) = lock.try_lock() {
        if since.elapsed() >= LOOKS {
            return Err(error.into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    lock.set_len(0)?;
    write!(lock, "{}", getpid().as_raw_nonzero())?;
    let spec: Spec = read(folder, SPEC)?.ok_or(io::ErrorKind::NotFound)?;
    if read::<End>(folder, END)?.is_some() {
        return Ok(());
    }
    // Out of the agent's session, and heir of every process whose parent ends.
    setsid().ok();
    set_child_subreaper(Some(getpid()))?;
    let end = match Supervised::begin(folder, &spec) {
        Ok(supervised) => supervised.until_end(),
        Err(error) => End::NotStarted(error.to_string()),
    };
    write(folder, END, &end)
}

struct Supervised<'a> {
    folder: &'a Path,
    spec: &'a Spec,
    lease: Lease,
    /// The workload's first process.
    first: Pid,
    output: Vec<thread::JoinHandle<()>>,
}

impl<'a> Supervised<'a> {
    fn begin(folder: &'a Path, spec: &'a Spec) -> io::Result<Self> {
        let mut ports = BTreeMap::new();
        // Held until all are chosen, so that no two are the same; free from then on until the workload listens.
        let mut held = Vec::new();
        for port in &spec.workload.ports {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            ports.insert(port.name.clone(), listener.local_addr()?.port());
            held.push(listener);
        }
        drop(held);
        // After what it wrote before it was lost, if it was.
        let writer = Writer::resume(folder, spec.workload.limits.log)?;
        let mut command = spec.command(folder, &spec.workload.command, &ports);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let writer = Arc::new(Mutex::new(writer));
        let mut output = Vec::new();
        output.extend(child.stdout.take().map(|pipe| keep_output(pipe, writer.clone())));
        output.extend(child.stderr.take().map(|pipe| keep_output(pipe, writer)));
        let first = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        if let Err(error) = write(folder, BEGAN, &ports) {
            kill_process_group(first, Signal::KILL).ok();
            return Err(error);
        }
        Ok(Self { folder, spec, lease: spec.lease(), first, output })
    }

    fn until_end(mut self) -> End {
        let own = getpid().as_raw_nonzero().get();
        let end = self.watch(own);
        if let Err(left) = self.lease.kill_all(Some(own)) {
            eprintln!("datagalax-shim: {left} processes cannot be killed");
        }
        reap(self.first).ok();
        let until = Instant::now() + LAST_WORDS;
        while self.output.iter().any(|thread| !thread.is_finished()) && Instant::now() < until {
            thread::sleep(TICK);
        }
        end
    }

    /// Until something ends the workload; what.
    fn watch(&mut self, own: i32) -> End {
        let limits = self.spec.workload.limits;
        let (mut look_at, mut walk_at) = (Instant::now(), Instant::now());
        let mut stopping: Option<Instant> = None;
        loop {
            match reap(self.first) {
                Ok(None) => {}
                Ok(Some(_)) if stopping.is_some() => return End::Stopped,
                Ok(Some(end)) => return end,
                // Nothing to be told of it any more; nothing of it is to stay.
                Err(_) => return End::Lost,
            }
            if Instant::now() >= look_at {
                let begun = Instant::now();
                let used = self.lease.usage(Some(own));
                if used.memory > limits.memory {
                    return End::OverLimit(format!("{} bytes of memory, it may use {}", used.memory, limits.memory));
                }
                if used.processes > limits.processes {
                    return End::OverLimit(format!("{} processes, it may have {}", used.processes, limits.processes));
                }
                look_at = Instant::now() + LOOK.max(begun.elapsed() * 10);
            }
            if Instant::now() >= walk_at {
                let begun = Instant::now();
                let disk = disk_usage(&self.folder.join(HOME), limits.disk);
                if disk > limits.disk {
                    return End::OverLimit(format!("{disk} bytes on disk or more, it may use {}", limits.disk));
                }
                walk_at = Instant::now() + WALK.max(begun.elapsed() * 10);
            }
            match stopping {
                Some(until) if Instant::now() >= until => return End::Stopped,
                Some(_) => {}
                None => match read::<Stop>(self.folder, STOP) {
                    Ok(None) => {}
                    Ok(Some(stop)) => {
                        stopping = Some(Instant::now() + Duration::from_millis(stop.grace_ms));
                        self.lease.signal(Some(own), Signal::TERM);
                    }
                    // Unreadable: the end is asked for all the same.
                    Err(_) => stopping = Some(Instant::now()),
                },
            }
            thread::sleep(TICK);
        }
    }
}

/// Takes leave of every child that ended: orphans of the workload are this process's, too. The first process's end is returned.
fn reap(first: Pid) -> io::Result<Option<End>> {
    let mut end = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == first => {
                end = Some(match status.exit_status() {
                    Some(code) => End::Exited(code),
                    None => End::Signalled(status.terminating_signal().unwrap_or(0)),
                });
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(end),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn keep_output(mut pipe: impl Read + Send + 'static, writer: Arc<Mutex<Writer>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut bytes = vec![0; 16 * 1024];
        // When the disk takes no more, the output is lost; the workload is not held up by it.
        while let Ok(read @ 1..) = pipe.read(&mut bytes) {
            writer.lock().unwrap_or_else(PoisonError::into_inner).write(&bytes[..read]).ok();
        }
    })
}

/// Bytes on disk below a folder; stops counting beyond `enough`. Follows no links.
fn disk_usage(folder: &Path, enough: u64) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let (mut sum, mut folders) = (0u64, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            // An empty file takes its name and inode at least.
            sum = sum.saturating_add((metadata.blocks() * 512).max(512));
            if sum > enough {
                return sum;
            }
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    sum
}
