//! What every runtime has to do, run against each of them.

use std::time::Duration;

use datagalax_runtime::{End, Exec, Id, Limits, Port, Runtime, RuntimeError, Status, Workload};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

/// Far longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(40);
pub const GRACE: Duration = Duration::from_secs(5);

/// A runtime that is tried, with a folder of its own.
#[allow(async_fn_in_trait, reason = "for these tests only")]
pub trait Stage {
    type Runtime: Runtime;

    /// A new runtime object, as an agent that comes back makes it.
    async fn open(&self) -> Self::Runtime;

    /// What a workload that runs this shell script is.
    fn workload(&self, script: &str) -> Workload;

    /// Processes of the lease.
    async fn processes(&self, id: &Id) -> u64;

    /// What there is of a lease beside what the runtime tells.
    async fn traces(&self, id: &Id) -> Vec<String>;

    /// A script that uses 400 MB of memory.
    fn hog(&self) -> &'static str;
}

pub struct Place<S: Stage> {
    pub stage: S,
    pub runtime: S::Runtime,
    pub id: Id,
}

pub fn limits() -> Limits {
    Limits { memory: 256 << 20, disk: 8 << 20, millicores: 1_500, processes: 40, files: 256, log: 1 << 20 }
}

/// A workload with what all workloads here have.
pub fn workload(script: &str) -> Workload {
    Workload {
        image: None,
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        environment: [("GREETING".into(), "hello".into())].into(),
        ports: vec![Port { name: "HTTP".into(), number: 0 }],
        volumes: vec![],
        gpus: false,
        limits: limits(),
    }
}

impl<S: Stage> Place<S> {
    pub async fn start(&self, script: &str) {
        let workload = self.stage.workload(script);
        self.runtime.prepare(&self.id, &workload, &|_| {}).await.unwrap();
        self.runtime.start(&self.id, &workload).await.unwrap();
    }

    pub async fn end(&self) -> End {
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
    pub async fn says(&self, text: &str) -> String {
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

    /// Ends it, and nothing is left: no process, no file, nothing in the engine.
    pub async fn stop(&self) {
        timeout(PATIENCE, self.runtime.stop(&self.id, GRACE)).await.expect("it stops").unwrap();
        assert_eq!(self.stage.traces(&self.id).await, Vec::<String>::new());
        assert_eq!(self.stage.processes(&self.id).await, 0);
        assert_eq!(self.runtime.list().await.unwrap(), []);
        assert_eq!(self.runtime.status(&self.id).await.unwrap(), Status::Absent);
        self.runtime.stop(&self.id, GRACE).await.unwrap();
    }

    pub async fn exec(&self, text: &str) -> (i32, String) {
        let command = ["sh", "-c", text].map(str::to_owned);
        finish(self.runtime.exec(&self.id, &command).await.unwrap()).await
    }
}

/// A command's status and output.
pub async fn finish(exec: Exec) -> (i32, String) {
    let Exec { stdin, mut stdout, mut stderr, ended } = exec;
    drop(stdin);
    let reading = async {
        let mut said = String::new();
        stdout.read_to_string(&mut said).await.unwrap();
        stderr.read_to_string(&mut said).await.unwrap();
        (ended.await.unwrap(), said)
    };
    timeout(PATIENCE, reading).await.expect("it ends")
}

pub async fn lifecycle(place: Place<impl Stage>) {
    place.start("echo $GREETING to the log; echo and here >&2; env | cut -d= -f1; echo x > file; exit 7").await;
    assert_eq!(place.end().await, End::Exited(7));
    let said = place.says("hello to the log").await;
    let chunks: Vec<_> = place.runtime.logs(&place.id, 0, true).collect().await;
    let all: String = chunks.into_iter().map(|chunk| String::from_utf8(chunk.unwrap().bytes).unwrap()).collect();
    assert!(all.starts_with(&said) && all.contains("and here"), "{all}");
    assert!(all.contains("PORT_HTTP") && !all.contains("CARGO"), "nothing of this process's environment: {all}");
    // It has ended: starting it again is no new start, and nothing runs beside it.
    let other = place.stage.workload("true");
    assert!(matches!(place.runtime.start(&place.id, &other).await, Err(RuntimeError::Other(_))));
    assert!(matches!(place.runtime.exec(&place.id, &["true".into()]).await, Err(RuntimeError::Ended(_))));
    assert!(matches!(place.runtime.connect(&place.id, "HTTP").await, Err(RuntimeError::Ended(_))));
    assert_eq!(place.runtime.list().await.unwrap(), std::slice::from_ref(&place.id));
    place.stop().await;
    assert!(matches!(place.runtime.exec(&place.id, &["true".into()]).await, Err(RuntimeError::Absent(_))));
}

pub async fn a_start_that_cannot_be(place: Place<impl Stage>) {
    let missing = Workload { command: vec!["/nonexistent/program".into()], ..place.stage.workload("") };
    let says_why = |text: &str| text.contains("No such file");
    match place.runtime.start(&place.id, &missing).await {
        Err(error) => {
            assert!(matches!(&error, RuntimeError::NotStarted(reason) if says_why(reason)), "{error}");
            let status = place.runtime.status(&place.id).await.unwrap();
            assert!(matches!(&status, Status::Ended(End::NotStarted(reason)) if says_why(reason)), "{status:?}");
        }
        // In a container the first process is the engine's: it says so in the output.
        Ok(()) => {
            assert_eq!(place.end().await, End::Exited(127));
            assert!(says_why(&place.says("/nonexistent/program").await));
        }
    }
    place.stop().await;
    let nothing = Workload { command: vec![String::new()], ..place.stage.workload("") };
    assert!(matches!(place.runtime.start(&place.id, &nothing).await, Err(RuntimeError::Invalid(_))));
    place.start("kill -SEGV $$").await;
    assert_eq!(place.end().await, End::Signalled(11), "a signal is told from an exit");
    place.stop().await;
}

pub async fn it_outlives_the_agent(place: Place<impl Stage>) {
    let Place { stage, runtime, id } = place;
    let workload = stage.workload("i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done");
    runtime.start(&id, &workload).await.unwrap();
    let place = Place { stage, runtime, id };
    place.says("line 5\n").await;
    let Place { stage, runtime, id } = place;
    drop(runtime);
    sleep(Duration::from_millis(300)).await;
    let runtime = stage.open().await;
    let place = Place { stage, runtime, id };
    assert_eq!(place.runtime.list().await.unwrap(), std::slice::from_ref(&place.id));
    assert_eq!(place.runtime.status(&place.id).await.unwrap(), Status::Running);
    place.runtime.start(&place.id, &workload).await.unwrap();
    let said = place.says("line 40\n").await;
    // Each line once, in order: neither started twice nor any output lost or doubled.
    let lines: Vec<&str> = said.lines().take(40).collect();
    assert_eq!(lines, (1..=40).map(|i| format!("line {i}")).collect::<Vec<_>>());
    let other = place.stage.workload("true");
    assert!(matches!(place.runtime.start(&place.id, &other).await, Err(RuntimeError::Other(_))));
    place.stop().await;
}

pub async fn a_polite_end(place: Place<impl Stage>) {
    place.start("trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.05; done").await;
    place.says("up").await;
    let logs = place.runtime.logs(&place.id, 0, true);
    let (heard, ()) = tokio::join!(logs.filter_map(async |chunk| chunk.ok()).collect::<Vec<_>>(), place.stop());
    let heard: Vec<u8> = heard.into_iter().flat_map(|chunk| chunk.bytes).collect();
    assert!(heard.starts_with(b"up\n"), "{heard:?}");
    // One that ignores it, with a child that left its session and whose parent ended, and that hides its environment.
    place.start("trap '' TERM; (setsid env -i sleep 600 &) ; echo up; while true; do sleep 1; done").await;
    place.says("up").await;
    timeout(PATIENCE, place.runtime.stop(&place.id, Duration::from_millis(200))).await.expect("it stops").unwrap();
    place.stop().await;
}

pub async fn a_fork_bomb(place: Place<impl Stage>) {
    // Each starts two more and none ends by itself for long.
    place.start("echo 'sh bomb & sh bomb & sleep 60' > bomb; sh bomb").await;
    // Whether it hits the limit and lives on, or is seen over the limit: it never gets far beyond.
    let mut most = 0;
    for _ in 0..40 {
        most = most.max(place.stage.processes(&place.id).await);
        sleep(Duration::from_millis(25)).await;
    }
    assert!(most >= 10, "it explodes: {most}");
    if most > limits().processes {
        assert!(matches!(place.end().await, End::OverLimit(_)), "{most} processes");
    }
    place.stop().await;
}

pub async fn a_memory_hog(place: Place<impl Stage>) {
    place.start(place.stage.hog()).await;
    match place.end().await {
        End::OverLimit(what) => assert!(what.contains("bytes of memory") && what.contains("268435456"), "{what}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(place.stage.processes(&place.id).await, 0, "ended means all of it");
    place.stop().await;
}

pub async fn a_disk_filler(place: Place<impl Stage>) {
    place.start("i=0; while true; do i=$((i+1)); mkdir -p d$i; head -c 1000000 /dev/zero > d$i/f; sleep 0.02; done").await;
    match place.end().await {
        End::OverLimit(what) => assert!(what.contains("on disk"), "{what}"),
        other => panic!("{other:?}"),
    }
    place.stop().await;
    // One file alone cannot grow beyond it.
    place.start("head -c 20000000 /dev/zero > f; echo $(stat -c %s f) bytes; exit 3").await;
    let end = place.end().await;
    assert!(matches!(end, End::Exited(3) | End::OverLimit(_)), "{end:?}");
    if end == End::Exited(3) {
        let said = place.says("bytes").await;
        // The shell's own word on the signal comes by the other stream, before or after.
        let size: u64 = said.lines().find_map(|line| line.strip_suffix(" bytes")).unwrap().parse().unwrap();
        assert!(size <= limits().disk, "{said}");
    }
    place.stop().await;
}

pub async fn output_without_end(place: Place<impl Stage>) {
    place.start("echo first; head -c 5000000 /dev/zero; echo; echo last").await;
    assert_eq!(place.end().await, End::Exited(0));
    // To the end, however much is still to be read.
    let mut last = None;
    let mut logs = place.runtime.logs(&place.id, 0, true);
    let listening = async {
        while let Some(chunk) = logs.next().await {
            last = Some(chunk.unwrap());
        }
    };
    timeout(PATIENCE, listening).await.expect("the output ends");
    let last = last.unwrap();
    assert_eq!(last.offset as usize + last.bytes.len(), 5_000_012);
    assert!(last.bytes.ends_with(b"\nlast\n"));
    let chunks: Vec<_> = place.runtime.logs(&place.id, 0, false).map(Result::unwrap).collect().await;
    let kept: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    assert!((700_000..=1 << 20).contains(&kept), "{kept}");
    assert!(chunks[0].offset > 0, "what was dropped is told by the offset");
    place.stop().await;
}

pub async fn commands_beside_it(place: Place<impl Stage>) {
    place.start("echo up; sleep 600").await;
    let (_, said) = place.exec("cat /proc/self/status").await;
    assert!(said.contains("NoNewPrivs:\t1"), "{said}");
    let (status, said) = place.exec("echo $GREETING; ulimit -n; exit 4").await;
    assert!(status == 4 && said.contains("hello") && said.contains("256"), "{status}: {said}");
    let mut exec = place.runtime.exec(&place.id, &["cat".into()]).await.unwrap();
    exec.stdin.write_all(b"there and back").await.unwrap();
    assert_eq!(finish(exec).await, (0, "there and back".into()));
    // Its two outputs are told apart.
    let exec = place.runtime.exec(&place.id, &["sh", "-c", "echo out; echo err >&2"].map(str::to_owned)).await.unwrap();
    let Exec { mut stdout, mut stderr, ended, .. } = exec;
    let (mut out, mut err) = (String::new(), String::new());
    stdout.read_to_string(&mut out).await.unwrap();
    stderr.read_to_string(&mut err).await.unwrap();
    assert_eq!((ended.await.unwrap(), out.as_str(), err.as_str()), (0, "out\n", "err\n"));
    // Dropped, it ends.
    let before = place.stage.processes(&place.id).await;
    let exec = place.runtime.exec(&place.id, &["sleep".into(), "599".into()]).await.unwrap();
    let reaches = async |wanted: u64| {
        while place.stage.processes(&place.id).await != wanted {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, reaches(before + 1)).await.expect("the command runs");
    drop(exec);
    timeout(PATIENCE, reaches(before)).await.expect("the command ends");
    // What one leaves behind ends with the lease.
    place.exec("setsid sleep 600 > /dev/null 2>&1 &").await;
    place.stop().await;
}

pub async fn files_in_and_out(place: Place<impl Stage>) {
    place.start("sleep 600").await;
    let bytes: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
    place.runtime.copy_in(&place.id, "data/in.bin", &mut bytes.as_slice()).await.unwrap();
    let (status, said) =
        place.exec("stat -c %s data/in.bin; echo more >> data/in.bin; echo x > data/beside; rm data/beside").await;
    assert!(status == 0 && said.starts_with("1000000\n"), "the workload's own: {said}");
    let Exec { stdin, mut stdout, ended, .. } = place.runtime.copy_out(&place.id, "data/in.bin").await.unwrap();
    drop(stdin);
    let mut back = Vec::new();
    stdout.read_to_end(&mut back).await.unwrap();
    assert!(ended.await.unwrap() == 0 && back.len() == 1_000_005 && back.starts_with(&bytes));
    place.runtime.copy_in(&place.id, "data/in.bin", &mut "short".as_bytes()).await.unwrap();
    assert_eq!(place.exec("cat data/in.bin").await, (0, "short".into()));
    let empty: &[u8] = &[];
    for bad in ["", "/etc/passwd", "../other", "a/../../b", "a\0b"] {
        let error = place.runtime.copy_in(&place.id, bad, &mut { empty }).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Path(_)), "{bad}");
        assert!(matches!(place.runtime.copy_out(&place.id, bad).await.err(), Some(RuntimeError::Path(_))), "{bad}");
    }
    let error = place.runtime.copy_in(&place.id, "data", &mut { empty }).await.unwrap_err();
    assert!(matches!(&error, RuntimeError::Copy { reason, .. } if reason.contains("directory")), "{error}");
    for (path, why) in [("nothing", "no such file"), ("data", "directory")] {
        let (status, said) = finish(place.runtime.copy_out(&place.id, path).await.unwrap()).await;
        assert!(status == 1 && said.to_lowercase().contains(why), "{path}: {status}: {said}");
    }
    // More than it may have on disk.
    let mut endless = tokio::io::repeat(7);
    let error = place.runtime.copy_in(&place.id, "endless", &mut endless).await;
    if place.runtime.status(&place.id).await.unwrap() == Status::Running {
        assert!(matches!(error, Err(RuntimeError::Copy { .. })), "{error:?}");
    }
    place.stop().await;
}

pub async fn ports_by_name(place: Place<impl Stage>, serve: &str) {
    place.start(&format!("echo port=$PORT_HTTP.; {serve}")).await;
    place.says(".\n").await;
    let served = async {
        loop {
            // It listens a moment after it says so.
            if let Ok(mut connected) = place.runtime.connect(&place.id, "HTTP").await {
                let mut read = String::new();
                connected.read_to_string(&mut read).await.unwrap();
                return read;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(timeout(PATIENCE, served).await.expect("it serves"), "served\n");
    assert!(matches!(place.runtime.connect(&place.id, "SSH").await, Err(RuntimeError::NoPort(_))));
    place.stop().await;
}

/// The tests of the suite, each in a place of its own.
#[macro_export]
macro_rules! suite {
    ($place:expr, serve: $serve:expr) => {
        $crate::suite!(@ $place, lifecycle, a_start_that_cannot_be, it_outlives_the_agent, a_polite_end, a_memory_hog,
            a_disk_filler, output_without_end, commands_beside_it, files_in_and_out);

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn ports_by_name() {
            suite::ports_by_name($place.await, $serve).await;
        }
    };
    (@ $place:expr, $($name:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                suite::$name($place.await).await;
            }
        )+
    };
}
