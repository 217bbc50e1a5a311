//! Workloads that are real processes of this machine.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{Leased, PATIENCE, leased, running, script, setup, tenant};
use crate::fake::{Setup, ready_host, until};
use datagalax_agent::chain::Registration;
use datagalax_protocol::lease::{End, ExecOutput, LogFrame, State, Workload};
use datagalax_runtime::{
    Runtime,
    process::{Isolation, Processes},
};
use datagalax_tenant::TenantError;
use futures_util::StreamExt;
use solana_keypair::Keypair;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// Where cargo puts it, beside the agent.
fn shim() -> PathBuf {
    let shim = PathBuf::from(env!("CARGO_BIN_EXE_datagalax-agent")).with_file_name("datagalax-shim");
    assert!(shim.exists(), "{} is not built: cargo build -p datagalax-runtime", shim.display());
    shim
}

/// A folder of workloads.
struct Place {
    folder: TempDir,
    isolation: Isolation,
}

impl Place {
    fn new() -> Self {
        static PLACES: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        // Users that no other test has.
        let first = 1_200_000_000 + std::process::id() % 100_000 * 2_000 + PLACES.fetch_add(1, Ordering::SeqCst) * 64;
        let root = rustix::process::geteuid().is_root();
        Self { folder, isolation: if root { Isolation::Users(first) } else { Isolation::SameUser } }
    }

    /// The runtime, as each process of an agent opens it.
    fn open(&self) -> Arc<dyn Runtime> {
        Arc::new(Processes::open(&self.folder.path().join("leases"), &shim(), self.isolation).unwrap())
    }

    /// Whether nothing of any lease is left.
    fn is_empty(&self) -> bool {
        fs::read_dir(self.folder.path().join("leases")).unwrap().next().is_none()
    }
}

/// Follows the output until it has this text; all of it.
pub(super) async fn says(leased: &Leased, text: &str) -> String {
    let (mut said, mut logs) = (String::new(), leased.tenant.logs(0, true));
    let listening = async {
        while !said.contains(text) {
            match logs.next().await {
                Some(Ok(LogFrame::Output { bytes, .. })) => said.push_str(&String::from_utf8_lossy(&bytes)),
                Some(Ok(LogFrame::Notice(_))) => {}
                other => panic!("{said:?}, then {other:?}"),
            }
        }
    };
    timeout(PATIENCE, listening).await.expect("it says so");
    said
}

/// Runs a command to its end: standard output, standard error, status.
pub(super) async fn run(leased: &Leased, words: &[&str], input: &[u8]) -> (String, String, i32) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let mut exec = leased.tenant.exec(&words).await.unwrap();
    exec.stdin.write_all(input).await.unwrap();
    drop(exec.stdin);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match timeout(PATIENCE, exec.output.next()).await.expect("it ends").unwrap().unwrap() {
            ExecOutput::Stdout(bytes) => out.extend(bytes),
            ExecOutput::Stderr(bytes) => err.extend(bytes),
            ExecOutput::Exited(status) => {
                let [out, err] = [out, err].map(|bytes| String::from_utf8(bytes).unwrap());
                return (out, err, status);
            }
            ExecOutput::Failed(reason) => panic!("{reason}"),
        }
    }
}

#[tokio::test]
async fn a_user_follows_the_output_runs_commands_and_copies_files() {
    let place = Place::new();
    let workload = Workload {
        environment: [("SECRET".to_owned(), "xyzzy".to_owned())].into(),
        ..script("echo it is $SECRET; sleep 1000")
    };
    let leased = leased(setup(running(place.open())), &workload).await;
    leased.run(&workload).await;
    assert_eq!(says(&leased, "\n").await, "it is xyzzy\n");
    assert_eq!(run(&leased, &["cat"], b"through and through").await, ("through and through".into(), String::new(), 0));
    assert_eq!(run(&leased, &["sh", "-c", "echo bad >&2; exit 3"], b"").await, (String::new(), "bad\n".into(), 3));
    let refused = leased.tenant.exec(&["/no/such/program".into()]).await.unwrap().output.next().await;
    assert!(matches!(refused, Some(Ok(ExecOutput::Failed(_)))), "{refused:?}");

    // Longer than any frame and any buffer.
    let file: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    leased.tenant.copy_in("data/in.bin", std::io::Cursor::new(file.clone())).await.unwrap();
    assert_eq!(run(&leased, &["sh", "-c", "wc -c < data/in.bin"], b"").await.0.trim(), "3000000");
    let mut copy = Vec::new();
    assert_eq!(leased.tenant.copy_out("data/in.bin", &mut copy).await, Ok(3_000_000));
    assert!(copy == file, "what came back is what was sent");
    let missing = leased.tenant.copy_out("no/such/file", &mut copy).await;
    assert!(matches!(&missing, Err(TenantError::Refused(text)) if text.contains("No such file")), "{missing:?}");
    let outside = leased.tenant.copy_out("../spec.json", &mut copy).await;
    assert!(matches!(&outside, Err(TenantError::Refused(text)) if text.contains("..")), "{outside:?}");
    // Beside it, the other file would take the workload over its limit before this one is too long by itself.
    assert_eq!(run(&leased, &["rm", "-r", "data"], b"").await.2, 0);
    let huge = leased.tenant.copy_in("huge", tokio::io::repeat(1).take(9 << 20)).await;
    assert!(matches!(&huge, Err(TenantError::Refused(text)) if text.contains("bytes of disk")), "{huge:?}");

    leased.close();
    until("everything to be gone", || !leased.on_disk() && place.is_empty()).await;
}

#[tokio::test]
async fn a_port_is_reached_through_the_agent_in_both_directions() {
    let place = Place::new();
    // Answers one connection with what it hears to the end, backwards.
    let server = "import os, socket\n\
        s = socket.create_server(('127.0.0.1', int(os.environ['PORT_ECHO'])))\n\
        print('listening', flush=True)\n\
        while True:\n c, _ = s.accept()\n d = b''\n while True:\n  r = c.recv(65536)\n  if not r: break\n  d += r\n c.sendall(d[::-1])\n c.close()\n";
    let workload = Workload { command: vec!["python3".into(), "-c".into(), server.into()], ..script("") };
    let leased = leased(setup(running(place.open())), &workload).await;
    leased.run(&workload).await;
    says(&leased, "listening").await;
    let mut port = leased.tenant.port("ECHO").await.unwrap();
    let sent: Vec<u8> = (0..500_000_u32).map(|at| (at % 251) as u8).collect();
    port.write_all(&sent).await.unwrap();
    port.shutdown().await.unwrap();
    let mut heard = Vec::new();
    timeout(PATIENCE, port.read_to_end(&mut heard)).await.expect("it answers").unwrap();
    assert!(heard.iter().rev().eq(&sent), "{} of {} bytes", heard.len(), sent.len());
    drop(port);
    until("the stream to be closed", || leased.host.metrics.lease_streams.get() == 0).await;
    let none = leased.tenant.port("NONE").await;
    assert!(matches!(&none, Err(TenantError::Refused(text)) if text.contains("NONE")), "{none:?}");
    leased.close();
    until("everything to be gone", || !leased.on_disk() && place.is_empty()).await;
}

#[tokio::test]
async fn an_agent_that_is_restarted_in_mid_lease_finds_the_process_and_its_output_goes_on() {
    let place = Place::new();
    let workload = script("echo begins as $$; while true; do sleep 0.2; echo on; done");
    let (state, key) = (Arc::new(tempfile::tempdir().unwrap()), Keypair::new());
    let again = || Setup { state: state.clone(), key: key.insecure_clone(), ..setup(running(place.open())) };
    let mut leased = leased(again(), &workload).await;
    leased.run(&workload).await;
    let before = says(&leased, "on\n").await;
    let lease = leased.host.chain.registration.lock().unwrap().as_ref().unwrap().lease;
    leased.host.stop().await.unwrap();
    let change = Box::new(move |known: &mut Option<Registration>| known.as_mut().unwrap().lease = lease);
    leased.host = ready_host(Setup { registration: change, ..again() }).await;
    leased.tenant = tenant(&leased.host, &leased.user, leased.lease.address);
    leased.comes("it to be found", |state| *state == State::Running).await;
    let after = says(&leased, &"on\n".repeat(before.matches("on\n").count() + 3)).await;
    assert!(after.starts_with(before.lines().next().unwrap()), "the same process: {after}");
    assert!(leased.status().await.notices.is_empty());
    leased.close();
    until("everything to be gone", || !leased.on_disk() && place.is_empty()).await;
}

#[tokio::test]
async fn a_process_that_the_host_lost_is_started_again_with_its_files_and_its_output_goes_on() {
    let place = Place::new();
    let workload = script("echo begins; ls; touch kept; echo ready; sleep 1000");
    let leased = leased(setup(running(place.open())), &workload).await;
    leased.run(&workload).await;
    assert_eq!(says(&leased, "ready\n").await, "begins\nready\n");
    // As a crash of the machine does, everything of it ends without a word.
    let lock = place.folder.path().join("leases").join(leased.lease.address.to_string()).join("lock");
    let supervisor = fs::read_to_string(lock).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(supervisor).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    assert_eq!(says(&leased, "kept\nready\n").await, "begins\nready\nbegins\nkept\nready\n");
    let status = leased.comes("it to run again", |state| *state == State::Running).await;
    assert!(status.notices[0].text.contains("lost the workload"), "{:?}", status.notices);
    leased.close();
    until("everything to be gone", || !leased.on_disk() && place.is_empty()).await;
}

/// Runs a workload that takes more than it may; its output, and how it ended in its user's eyes.
async fn abuse(text: &str) -> (String, End) {
    let place = Place::new();
    let workload = script(text);
    let leased = leased(setup(running(place.open())), &workload).await;
    leased.hand_over(&workload).await.unwrap();
    let (mut said, mut frames) = (String::new(), leased.tenant.logs(0, true));
    let ending = async {
        loop {
            match frames.next().await {
                Some(Ok(LogFrame::Output { bytes, .. })) => said.push_str(&String::from_utf8_lossy(&bytes)),
                Some(Ok(LogFrame::End(end))) => return end,
                other => panic!("{other:?}"),
            }
        }
    };
    let end = timeout(PATIENCE, ending).await.expect("it is ended");
    assert_eq!(leased.status().await.state, State::Ended { end: end.clone() });
    until("the lease to be started: it ran", || leased.host.chain.done() == ["start"]).await;
    leased.close();
    until("everything to be gone", || !leased.on_disk() && place.is_empty()).await;
    (said, end)
}

#[tokio::test]
async fn a_workload_that_fills_the_disk_ends_with_the_reason() {
    let (_, end) = abuse("n=0; while true; do head -c 1000000 /dev/zero > full$n; n=$((n+1)); sleep 0.02; done").await;
    assert!(matches!(&end, End::OverLimit { what } if what.contains("disk")), "{end:?}");
}

#[tokio::test]
async fn a_workload_that_forks_without_end_fails_at_it_or_is_ended_with_the_reason() {
    let (said, end) = abuse("for i in $(seq 200); do sleep 1000 & done; wait").await;
    match &end {
        // A user of its own cannot have more.
        End::Exited { status } => assert!(*status != 0 && said.to_lowercase().contains("fork"), "{said}"),
        End::OverLimit { what } => assert!(what.contains("processes"), "{what}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_workload_that_takes_all_memory_ends_with_the_reason() {
    let hog = "python3 -c 'import time\nx = bytearray(120 << 20)\ntime.sleep(1000)'";
    let (_, end) = abuse(&format!("{hog} & {hog} & {hog} & wait")).await;
    assert!(matches!(&end, End::OverLimit { what } if what.contains("memory")), "{end:?}");
}
