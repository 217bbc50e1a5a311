//! Plain processes as the runtime runs them: real ones, well-behaved and not. As root, each lease has a user of its own.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use datagalax_runtime::{
    End, Exec, Id, Limits, Port, Runtime, RuntimeError, Status, Workload,
    members::Lease,
    process::{Isolation, Processes},
};
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{sleep, timeout},
};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(25);
const GRACE: Duration = Duration::from_secs(5);

struct Place {
    folder: TempDir,
    isolation: Isolation,
    runtime: Processes,
    id: Id,
    /// Without users of their own, a test that takes all of the user's processes disturbs the others.
    turn: Option<Turn>,
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
async fn place() -> Place {
    Place { turn: Some(Turn::Beside(TURNS.read().await)), ..lone_place() }
}

fn lone_place() -> Place {
    static PLACES: AtomicU32 = AtomicU32::new(0);
    let at = PLACES.fetch_add(1, Ordering::SeqCst);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let first = 1_000_000 + std::process::id() % 100_000 * 2_000 + at * 64;
    let isolation = if geteuid().is_root() { Isolation::Users(first) } else { Isolation::SameUser };
    let runtime = Processes::open(&folder.path().join("leases"), shim(), isolation).unwrap();
    Place { folder, isolation, runtime, id: format!("Lease{at}").parse().unwrap(), turn: None }
}

fn limits() -> Limits {
    Limits { memory: 256 << 20, disk: 8 << 20, millicores: 0, processes: 40, files: 256, log: 1 << 20 }
}

fn script(script: &str) -> Workload {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    Workload {
        image: None,
        command,
        environment: [("GREETING".into(), "hello".into())].into(),
        ports: vec![Port { name: "HTTP".into(), number: 80 }],
        volumes: vec![],
        gpus: false,
        limits: limits(),
    }
}

impl Place {
    fn open_again(&self) -> Processes {
        Processes::open(&self.folder.path().join("leases"), shim(), self.isolation).unwrap()
    }

    async fn start(&self, text: &str) {
        self.runtime.start(&self.id, &script(text)).await.unwrap();
    }

    async fn end(&self) -> End {
        let ended = async {
            loop {
                match self.runtime.status(&self.id).await.unwrap() {
                    Status::Ended(end) => return end,
                    Status::Running => sleep(Duration::from_millis(20)).await,
                    Status::Absent => panic!("it is gone"),
                }
            }
        };
        timeout(PATIENCE, ended).await.expect("it ends")
    }

    /// Follows the output until it has this text.
    async fn says(&self, text: &str) -> String {
        let mut said = String::new();
        let mut logs = self.runtime.logs(&self.id, 0, true);
        let listening = async {
            while !said.contains(text) {
                let Some(chunk) = logs.next().await else { break };
                said.push_str(&String::from_utf8_lossy(&chunk.unwrap().bytes));
            }
        };
        timeout(PATIENCE, listening).await.ok();
        assert!(said.contains(text), "{said:?} has no {text:?}");
        said
    }

    fn lease(&self) -> Lease {
        let uid = match self.isolation {
            Isolation::Users(first) => Some(first),
            Isolation::SameUser => None,
        };
        Lease { id: self.id.clone(), uid }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("leases").join(self.id.as_str()).join("home")
    }

    /// Ends it, and nothing is left: no process, no file.
    async fn stop(&self) {
        timeout(PATIENCE, self.runtime.stop(&self.id, GRACE)).await.expect("it stops").unwrap();
        assert_eq!(self.lease().usage(None).processes, 0);
        assert_eq!(fs::read_dir(self.folder.path().join("leases")).unwrap().count(), 0);
        assert_eq!(self.runtime.status(&self.id).await.unwrap(), Status::Absent);
        self.runtime.stop(&self.id, GRACE).await.unwrap();
    }

    async fn exec(&self, text: &str) -> (i32, String) {
        let command = ["sh", "-c", text].map(str::to_owned);
        finish(self.runtime.exec(&self.id, &command).await.unwrap()).await
    }
}

/// A command's status and output.
async fn finish(exec: Exec) -> (i32, String) {
    let Exec { stdin, mut stdout, mut stderr, ended } = exec;
    drop(stdin);
    let mut said = String::new();
    stdout.read_to_string(&mut said).await.unwrap();
    stderr.read_to_string(&mut said).await.unwrap();
    (timeout(PATIENCE, ended).await.expect("it ends").unwrap(), said)
}

#[tokio::test]
async fn a_workload_runs_in_its_own_folder_with_its_own_environment_and_says_how_it_ended() {
    let place = place().await;
    place.start("echo $GREETING to the log; echo and here >&2; env | cut -d= -f1; echo x > file; pwd; id -u; exit 7").await;
    assert_eq!(place.end().await, End::Exited(7));
    let said = place.says("hello to the log").await;
    let chunks: Vec<_> = place.runtime.logs(&place.id, 0, false).collect().await;
    let all: String = chunks.into_iter().map(|chunk| String::from_utf8(chunk.unwrap().bytes).unwrap()).collect();
    assert!(all.starts_with(&said) && all.contains("and here") && all.contains(place.home().to_str().unwrap()), "{all}");
    assert!(all.contains("PORT_HTTP") && !all.contains("CARGO"), "nothing of this process's environment: {all}");
    if let Some(uid) = place.lease().uid {
        assert!(all.contains(&format!("\n{uid}\n")), "{all}");
    }
    assert_eq!(fs::read_to_string(place.home().join("file")).unwrap(), "x\n");
    // It has ended: starting it again is no new start, and nothing runs beside it.
    assert!(matches!(place.runtime.start(&place.id, &script("true")).await, Err(RuntimeError::Other(_))));
    assert!(matches!(place.runtime.exec(&place.id, &["true".into()]).await, Err(RuntimeError::Ended(_))));
    place.stop().await;
    assert!(matches!(place.runtime.exec(&place.id, &["true".into()]).await, Err(RuntimeError::Absent(_))));
}

#[tokio::test]
async fn what_cannot_start_says_why_and_a_signal_is_told_from_an_exit() {
    let place = place().await;
    let missing = Workload { command: vec!["/nonexistent/program".into()], ..script("") };
    let error = place.runtime.start(&place.id, &missing).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::NotStarted(reason) if reason.contains("No such file")), "{error}");
    place.stop().await;
    let nothing = Workload { command: vec![], ..script("") };
    assert!(matches!(place.runtime.start(&place.id, &nothing).await, Err(RuntimeError::Invalid(_))));
    for (refused, said) in [
        (Workload { image: Some("a@sha256:b".into()), ..script("true") }, "not images"),
        (Workload { volumes: vec!["/data".into()], ..script("true") }, "no volumes"),
    ] {
        let preparing = place.runtime.prepare(&place.id, &refused, &|_| {}).await.unwrap_err();
        let starting = place.runtime.start(&place.id, &refused).await.unwrap_err();
        for error in [preparing, starting] {
            assert!(matches!(&error, RuntimeError::Refused(why) if why.contains(said)), "{error}");
        }
    }
    place.runtime.prepare(&place.id, &script("true"), &|_| {}).await.unwrap();
    place.start("kill -SEGV $$").await;
    assert_eq!(place.end().await, End::Signalled(11));
    place.stop().await;
}

#[tokio::test]
async fn it_outlives_the_agent_and_is_found_again() {
    let Place { folder, isolation, runtime, id, turn } = place().await;
    let workload = script("i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done");
    runtime.start(&id, &workload).await.unwrap();
    drop(runtime);
    let runtime = Processes::open(&folder.path().join("leases"), shim(), isolation).unwrap();
    let place = Place { folder, isolation, runtime, id, turn };
    assert_eq!(place.runtime.list().await.unwrap(), std::slice::from_ref(&place.id));
    assert_eq!(place.runtime.status(&place.id).await.unwrap(), Status::Running);
    place.runtime.start(&place.id, &workload).await.unwrap();
    let said = place.says("line 20\n").await;
    assert_eq!(said.matches("line 1\n").count(), 1, "it was not started twice: {said}");
    assert!(matches!(place.runtime.start(&place.id, &script("true")).await, Err(RuntimeError::Other(_))));
    place.stop().await;
}

#[tokio::test]
async fn without_its_supervisor_a_workload_is_lost_and_ended() {
    let place = place().await;
    place.start("sleep 600 & sleep 600").await;
    let lock = fs::read_to_string(place.home().with_file_name("lock")).unwrap();
    kill_process(Pid::from_raw(lock.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(place.end().await, End::Lost);
    assert_eq!(place.lease().usage(None).processes, 0);
    assert_eq!(place.open_again().status(&place.id).await.unwrap(), Status::Ended(End::Lost));
    place.stop().await;
}

#[tokio::test]
async fn the_end_is_polite_first_and_leaves_nothing() {
    let place = place().await;
    place.start("trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.05; done").await;
    place.says("up").await;
    place.stop().await;
    // One that ignores it, with a child that left its session and whose parent ended, and that hides its environment.
    place.start("trap '' TERM; (setsid env -i sleep 600 &) ; echo up; while true; do sleep 1; done").await;
    place.says("up").await;
    timeout(PATIENCE, place.runtime.stop(&place.id, Duration::from_millis(200))).await.expect("it stops").unwrap();
    place.stop().await;
}

#[tokio::test]
async fn a_fork_bomb_is_contained_and_cleared() {
    let place = Place { turn: Some(Turn::Alone(TURNS.write().await)), ..lone_place() };
    // Each starts two more and none ends by itself for long.
    place.start("echo 'sh bomb & sh bomb & sleep 60' > bomb; sh bomb").await;
    // Whether it hits the user's limit and lives on, or is seen over the limit: it never gets far beyond.
    let most = async {
        let mut most = 0;
        for _ in 0..40 {
            most = most.max(place.lease().usage(None).processes);
            sleep(Duration::from_millis(25)).await;
        }
        most
    };
    let most = most.await;
    assert!(most >= 10, "it explodes: {most}");
    if most > limits().processes {
        assert!(place.lease().uid.is_none(), "{most} processes");
        assert!(matches!(place.end().await, End::OverLimit(_)));
    }
    place.stop().await;
}

#[tokio::test]
async fn a_memory_hog_is_ended() {
    let place = place().await;
    // `tail` keeps a line without an end in memory: four of them, none beyond the limit alone.
    place.start("for i in 1 2 3 4; do head -c 120000000 /dev/zero | tail -n 1 | sleep 60 & done; wait").await;
    match place.end().await {
        End::OverLimit(what) => assert!(what.contains("bytes of memory, it may use 268435456"), "{what}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(place.lease().usage(None).processes, 0, "ended means all of it");
    place.stop().await;
    // Alone it cannot even ask for more.
    place.start("head -c 400000000 /dev/zero | tail -n 1 > /dev/null; echo status $?; test $? -eq 0").await;
    let end = place.end().await;
    if !matches!(&end, End::OverLimit(what) if what.contains("memory")) {
        let said = place.says("status").await;
        assert!(!said.contains("status 0"), "{end:?}: {said}");
    }
    place.stop().await;
}

#[tokio::test]
async fn a_disk_filler_is_ended() {
    let place = place().await;
    place.start("i=0; while true; do i=$((i+1)); mkdir -p d$i; head -c 1000000 /dev/zero > d$i/f; done").await;
    match place.end().await {
        End::OverLimit(what) => assert!(what.contains("on disk"), "{what}"),
        other => panic!("{other:?}"),
    }
    place.stop().await;
    // One file alone cannot grow beyond it.
    place.start("head -c 20000000 /dev/zero > f; ls -s f; exit 3").await;
    let end = place.end().await;
    assert!(matches!(end, End::Exited(3) | End::OverLimit(_)), "{end:?}");
    assert!(fs::metadata(place.home().join("f")).unwrap().len() <= limits().disk);
    place.stop().await;
}

#[tokio::test]
async fn output_without_end_is_kept_within_its_bound() {
    let place = place().await;
    place.start("echo first; head -c 5000000 /dev/zero; echo last").await;
    assert_eq!(place.end().await, End::Exited(0));
    let chunks: Vec<_> = place.runtime.logs(&place.id, 0, true).map(Result::unwrap).collect().await;
    let kept: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    assert!((700_000..=1 << 20).contains(&kept), "{kept}");
    assert!(chunks[0].offset > 0, "what was dropped is told by the offset");
    let last = chunks.last().unwrap();
    assert_eq!(last.offset as usize + last.bytes.len(), 5_000_011);
    assert!(last.bytes.ends_with(b"last\n"));
    place.stop().await;
}

#[tokio::test]
async fn commands_run_beside_it_with_its_rights_and_limits() {
    let place = place().await;
    place.start("echo up; sleep 600").await;
    let (_, said) = place.exec("cat /proc/self/status").await;
    assert!(said.contains("NoNewPrivs:\t1"), "{said}");
    let (status, said) = place.exec("echo $GREETING; pwd; ulimit -n; id -u; exit 4").await;
    assert!(status == 4 && said.contains("hello") && said.contains("256"), "{status}: {said}");
    let mut exec = place.runtime.exec(&place.id, &["cat".into()]).await.unwrap();
    exec.stdin.write_all(b"there and back").await.unwrap();
    assert_eq!(finish(exec).await, (0, "there and back".into()));
    // Dropped, it ends.
    let exec = place.runtime.exec(&place.id, &["sleep".into(), "599".into()]).await.unwrap();
    let before = place.lease().usage(None).processes;
    drop(exec);
    let fewer = async {
        while place.lease().usage(None).processes >= before {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, fewer).await.expect("the command ends");
    // What it leaves behind ends with the lease.
    place.exec("setsid sleep 600 > /dev/null 2>&1 & echo > /tmp/left-$(id -u)").await;
    place.stop().await;
    if let Some(uid) = place.lease().uid {
        assert!(!Path::new(&format!("/tmp/left-{uid}")).exists());
    }
    fs::remove_file(format!("/tmp/left-{}", geteuid().as_raw())).ok();
}

#[tokio::test]
async fn files_go_in_and_out_with_its_rights() {
    let place = place().await;
    place.start("sleep 600").await;
    let bytes: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
    place.runtime.copy_in(&place.id, "data/in.bin", &mut bytes.as_slice()).await.unwrap();
    let Exec { stdin, mut stdout, ended, .. } = place.runtime.copy_out(&place.id, "data/in.bin").await.unwrap();
    drop(stdin);
    let mut back = Vec::new();
    stdout.read_to_end(&mut back).await.unwrap();
    assert!(ended.await.unwrap() == 0 && back == bytes);
    let empty: &[u8] = &[];
    for bad in ["", "/etc/passwd", "../other", "a/../../b", "a\0b"] {
        let error = place.runtime.copy_in(&place.id, bad, &mut { empty }).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Path(_)), "{bad}");
        assert!(matches!(place.runtime.copy_out(&place.id, bad).await.err(), Some(RuntimeError::Path(_))), "{bad}");
    }
    let error = place.runtime.copy_in(&place.id, "data", &mut { empty }).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Copy { reason, .. } if reason.contains("directory")), "{error}");
    if place.lease().uid.is_some() {
        // A link leads no further than the workload itself can go, neither out nor in.
        let secret = place.folder.path().join("operator.json");
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
    place.stop().await;
}

#[tokio::test]
async fn its_ports_are_found_by_name() {
    let place = place().await;
    place.start("echo port=$PORT_HTTP.; sleep 600").await;
    let said = place.says(".\n").await;
    let port: u16 = said.trim().trim_start_matches("port=").trim_end_matches('.').parse().unwrap();
    // In the workload's place.
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (connected, accepted) = tokio::join!(place.runtime.connect(&place.id, "HTTP"), listener.accept());
    let (mut connected, (mut accepted, _)) = (connected.unwrap(), accepted.unwrap());
    accepted.write_all(b"served").await.unwrap();
    drop(accepted);
    let mut read = String::new();
    connected.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "served");
    assert!(matches!(place.runtime.connect(&place.id, "SSH").await, Err(RuntimeError::NoPort(_))));
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
