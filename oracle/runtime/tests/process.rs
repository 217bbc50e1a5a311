//! Plain processes as the runtime runs them: real ones, well-behaved and not. As root, each lease has a user of its own.

mod suite;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use datagalax_runtime::{
    End, Id, Runtime, RuntimeError, Status, Workload,
    members::Lease,
    process::{Isolation, Processes},
};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use suite::{Place, Stage, finish};
use tempfile::TempDir;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

struct Host {
    folder: TempDir,
    isolation: Isolation,
    /// Without users of their own, a test that takes all of the user's processes disturbs the others.
    _turn: Turn,
}

#[allow(dead_code, reason = "held")]
enum Turn {
    Beside(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

static TURNS: RwLock<()> = RwLock::const_new(());

fn shim() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_datagalax-shim"))
}

/// A folder and users that no other test has.
async fn place() -> Place<Host> {
    place_in(Turn::Beside(TURNS.read().await)).await
}

async fn place_in(turn: Turn) -> Place<Host> {
    static PLACES: AtomicU32 = AtomicU32::new(0);
    let at = PLACES.fetch_add(1, Ordering::SeqCst);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let first = 1_000_000 + std::process::id() % 100_000 * 2_000 + at * 64;
    let isolation = if geteuid().is_root() { Isolation::Users(first) } else { Isolation::SameUser };
    let stage = Host { folder, isolation, _turn: turn };
    Place { runtime: stage.open().await, stage, id: format!("Lease{at}").parse().unwrap() }
}

impl Host {
    fn lease(&self, id: &Id) -> Lease {
        let uid = match self.isolation {
            Isolation::Users(first) => Some(first),
            Isolation::SameUser => None,
        };
        Lease { id: id.clone(), uid }
    }

    fn home(&self, id: &Id) -> PathBuf {
        self.folder.path().join("leases").join(id.as_str()).join("home")
    }
}

impl Stage for Host {
    type Runtime = Processes;

    async fn open(&self) -> Processes {
        Processes::open(&self.folder.path().join("leases"), shim(), self.isolation).unwrap()
    }

    fn workload(&self, script: &str) -> Workload {
        suite::workload(script)
    }

    async fn processes(&self, id: &Id) -> u64 {
        self.lease(id).usage(None).processes
    }

    async fn traces(&self, _: &Id) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("leases")).unwrap().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect()
    }

    fn hog(&self) -> &'static str {
        // `tail` keeps a line without an end in memory: four of them, none beyond the limit alone.
        "for i in 1 2 3 4; do head -c 120000000 /dev/zero | tail -n 1 | sleep 60 & done; wait"
    }
}

suite!(place(), serve: "busybox nc -ll -p $PORT_HTTP -e echo served");

#[tokio::test]
async fn a_fork_bomb() {
    suite::a_fork_bomb(place_in(Turn::Alone(TURNS.write().await)).await).await;
}

#[tokio::test]
async fn images_and_volumes_are_refused_by_name() {
    let place = place().await;
    for (refused, said) in [
        (Workload { image: Some("a@sha256:b".into()), ..suite::workload("true") }, "not images"),
        (Workload { volumes: vec!["/data".into()], ..suite::workload("true") }, "no volumes"),
    ] {
        let preparing = place.runtime.prepare(&place.id, &refused, &|_| {}).await.unwrap_err();
        let starting = place.runtime.start(&place.id, &refused).await.unwrap_err();
        for error in [preparing, starting] {
            assert!(matches!(&error, RuntimeError::Refused(why) if why.contains(said)), "{error}");
        }
    }
    place.stop().await;
}

#[tokio::test]
async fn it_has_a_folder_and_a_user_of_its_own() {
    let place = place().await;
    place.start("pwd; id -u; echo x > file; echo done; sleep 600").await;
    let said = place.says("done").await;
    assert!(said.contains(place.stage.home(&place.id).to_str().unwrap()), "{said}");
    if let Some(uid) = place.stage.lease(&place.id).uid {
        assert!(said.contains(&format!("\n{uid}\n")), "{said}");
    }
    assert_eq!(fs::read_to_string(place.stage.home(&place.id).join("file")).unwrap(), "x\n");
    assert_eq!(place.runtime.traffic(&place.id).await.unwrap(), None, "it shares the host's network");
    // What it leaves where everybody may write ends with it.
    place.exec("echo > /tmp/left-$(id -u)").await;
    place.stop().await;
    if let Some(uid) = place.stage.lease(&place.id).uid {
        assert!(!Path::new(&format!("/tmp/left-{uid}")).exists());
    }
    fs::remove_file(format!("/tmp/left-{}", geteuid().as_raw())).ok();
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing_behind_its_stop() {
    let place = place().await;
    let workload = suite::workload("sleep 600");
    for milliseconds in (0..40).step_by(2) {
        place.runtime.prepare(&place.id, &workload, &|_| {}).await.unwrap();
        let starting = place.runtime.start(&place.id, &workload);
        tokio::time::timeout(Duration::from_millis(milliseconds), starting).await.ok();
        place.stop().await;
    }
    // Nor comes a supervisor late.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(place.stage.processes(&place.id).await, 0);
    place.stop().await;
}

#[tokio::test]
async fn without_its_supervisor_a_workload_is_lost_and_ended() {
    let place = place().await;
    let script = "sleep 600 & echo run; ls; echo x > file; echo there; sleep 600";
    place.start(script).await;
    place.says("there\n").await;
    let lock = fs::read_to_string(place.stage.home(&place.id).with_file_name("lock")).unwrap();
    kill_process(Pid::from_raw(lock.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(place.end().await, End::Lost);
    assert_eq!(place.stage.processes(&place.id).await, 0);
    assert_eq!(place.stage.open().await.status(&place.id).await.unwrap(), Status::Ended(End::Lost));
    // It runs again, with its files, and its output goes on.
    place.start(script).await;
    assert_eq!(place.says("file\nthere\n").await, "run\nthere\nrun\nfile\nthere\n");
    place.stop().await;
}

#[tokio::test]
async fn alone_a_process_cannot_even_ask_for_more_memory() {
    let place = place().await;
    place.start("head -c 400000000 /dev/zero | tail -n 1 > /dev/null; echo status $?; test $? -eq 0").await;
    let end = place.end().await;
    if !matches!(&end, End::OverLimit(what) if what.contains("memory")) {
        let said = place.says("status").await;
        assert!(!said.contains("status 0"), "{end:?}: {said}");
    }
    place.stop().await;
}

#[tokio::test]
async fn a_link_leads_no_further_than_the_workload_itself_can_go() {
    let place = place().await;
    place.start("sleep 600").await;
    if place.stage.lease(&place.id).uid.is_some() {
        let secret = place.stage.folder.path().join("operator.json");
        fs::write(&secret, "secret").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let (status, said) = place.exec(&format!("cat {}", secret.display())).await;
        assert!(status != 0 && !said.contains("secret") && said.contains("denied"), "{said}");
        place.exec(&format!("ln -s {} link", secret.display())).await;
        let (status, said) = finish(place.runtime.copy_out(&place.id, "link").await.unwrap()).await;
        assert!(status != 0 && !said.contains("secret"), "{said}");
        place.runtime.copy_in(&place.id, "link", &mut "overwritten".as_bytes()).await.unwrap_err();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    }
    place.runtime.stop(&place.id, Duration::ZERO).await.unwrap();
    place.stop().await;
}

#[tokio::test]
async fn what_the_runtime_needs_is_asked_for_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = Processes::open(folder.path(), Path::new("/nonexistent"), Isolation::SameUser).err().unwrap();
    assert!(error.to_string().contains("datagalax-shim"), "{error}");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let users = Processes::open(&folder.path().join("leases"), shim(), Isolation::Users(1_000_000)).err().unwrap();
    // A folder that is its owner's alone: no other user comes through.
    let expected = if geteuid().is_root() { "chmod o+x" } else { "root" };
    assert!(users.to_string().contains(expected), "{users}");
}
