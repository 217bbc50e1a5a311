//! Which processes belong to a lease. None may escape: a process belongs by its ancestors, and by the lease's own user, or,
//! where leases have none, by what it finds in its environment.

use std::{collections::HashSet, fs, time::Duration};

use rustix::process::{Pid, Signal, geteuid, getpid, kill_process};

use crate::Id;

/// The variable that every process of a lease is started with.
pub const MARK: &str = "DATAGALAX_LEASE";

/// By what processes are known to be a lease's.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its id, in the environment of what was started for it.
    pub id: Id,
    /// The user that only it has.
    pub uid: Option<u32>,
}

/// A process.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: i32,
    parent: i32,
    /// Resident bytes.
    memory: u64,
    marked: bool,
}

/// What a lease's processes use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// How many there are.
    pub processes: u64,
    /// Resident bytes of all of them.
    pub memory: u64,
}

/// Threads of all processes of this process's own user.
pub fn threads_of_own_user() -> u64 {
    let own = geteuid().as_raw();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let threads = entries.filter_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name: &str| -> Option<u64> {
            status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
        };
        field("Threads:").filter(|_| field("Uid:") == Some(own.into()))
    });
    threads.sum()
}

impl Lease {
    /// The processes of the lease: its user's (without one, those that carry its mark) and their descendants; with `supervisor`, also the
    /// descendants of that process, but not itself.
    fn find(&self, supervisor: Option<i32>) -> Vec<Process> {
        let own = getpid().as_raw_nonzero().get();
        let mark = format!("{MARK}={}", self.id);
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let all: Vec<Process> = pids.filter_map(|pid| self.look(pid, &mark)).collect();
        let mut ours: HashSet<i32> = all.iter().filter(|process| process.marked).map(|process| process.pid).collect();
        ours.extend(supervisor);
        // Parents may come after their children in the list.
        while {
            let before = ours.len();
            let more = all.iter().filter(|process| ours.contains(&process.parent)).map(|process| process.pid);
            let more: Vec<i32> = more.collect();
            ours.extend(more);
            ours.len() > before
        } {}
        let other = |process: &Process| process.pid != own && Some(process.pid) != supervisor;
        all.into_iter().filter(|process| ours.contains(&process.pid) && other(process)).collect()
    }

    /// A process, `None` when it is gone or a zombie.
    fn look(&self, pid: i32, mark: &str) -> Option<Process> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()
        };
        if field("State:")?.starts_with(['Z', 'X']) {
            return None;
        }
        let uid: u32 = field("Uid:")?.parse().ok()?;
        let marked = match self.uid {
            // By the user alone: another lease could give itself this one's mark, to be counted here.
            Some(own) => uid == own,
            None => {
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
            }
        };
        let memory = field("VmRSS:").and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10;
        Some(Process { pid, parent: field("PPid:")?.parse().ok()?, memory, marked })
    }

    /// What its processes use.
    pub fn usage(&self, supervisor: Option<i32>) -> Use {
        let found = self.find(supervisor);
        Use { processes: found.len() as u64, memory: found.iter().map(|process| process.memory).sum() }
    }

    /// Sends a signal to all of them.
    pub fn signal(&self, supervisor: Option<i32>, signal: Signal) {
        for process in self.find(supervisor) {
            if let Some(pid) = Pid::from_raw(process.pid) {
                // It may just have ended.
                kill_process(pid, signal).ok();
            }
        }
    }

    /// Kills all of them until none is left: they are stopped first, so that none can start others meanwhile.
    ///
    /// # Errors
    /// How many are left after some seconds (in an uninterruptible wait of the kernel's).
    pub fn kill_all(&self, supervisor: Option<i32>) -> Result<(), u64> {
        for _ in 0..200 {
            if self.find(supervisor).is_empty() {
                return Ok(());
            }
            self.signal(supervisor, Signal::STOP);
            self.signal(supervisor, Signal::KILL);
            std::thread::sleep(Duration::from_millis(20));
        }
        match self.usage(supervisor).processes {
            0 => Ok(()),
            left => Err(left),
        }
    }
}
