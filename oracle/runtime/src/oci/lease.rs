//! A lease's life: what is known of it in its folder, and what is there of it in the engine.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::PoisonError,
    time::{Duration, Instant},
};

use bollard::{
    models::{ContainerState, ContainerStateStatusEnum, VolumeCreateRequest},
    query_parameters::{
        CreateContainerOptions, CreateContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
        RemoveVolumeOptions, StartContainerOptions, StatsOptionsBuilder,
    },
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time;

use super::{
    Inner,
    container::Plan,
    engine::{Found, absent_is_none, refusal},
    files,
    image::{Image, Present},
    output,
};
use crate::{End, Id, MAX_LEASES, Progress, RuntimeError, Status, Workload, error::failed, record};

/// The workload. A folder with it is a lease.
pub(super) const SPEC: &str = "spec.json";
/// It began.
pub(super) const BEGAN: &str = "began.json";
/// It ended; how.
pub(super) const END: &str = "end.json";
/// Its image was fetched; whether it was pulled for it.
const IMAGE: &str = "image.json";
/// How often a state is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(50);
/// Most tries to remove a network whose last container is just going.
const TRIES: usize = 100;

/// That a workload began.
#[derive(Serialize, Deserialize)]
struct Began {
    /// The life of the machine in which it did.
    boot: String,
}

/// The image of a lease.
#[derive(Serialize, Deserialize)]
struct Fetched {
    image: String,
    /// It was not there before; when no lease needs it any more it is removed.
    pulled: bool,
}

/// Changes when the machine is started anew.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

impl Inner {
    pub fn folder(&self, id: &Id) -> PathBuf {
        self.root.join(id.as_str())
    }

    pub fn spec(&self, id: &Id) -> Result<Option<Workload>, RuntimeError> {
        record::read(&self.folder(id), SPEC).map_err(failed("read the workload"))
    }

    /// Leases with a folder here.
    fn folders(&self) -> Result<BTreeSet<Id>, RuntimeError> {
        let entries = fs::read_dir(&self.root).map_err(failed("list the workloads"))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    fn fetched(&self, id: &Id) -> Option<Fetched> {
        record::read(&self.folder(id), IMAGE).ok().flatten()
    }

    pub async fn list(&self) -> Result<Vec<Id>, RuntimeError> {
        let mut all = self.folders()?;
        all.extend(self.engine.find(None).await?.into_keys());
        Ok(all.into_iter().collect())
    }

    /// Checks that the workload can be run here, and fetches its image.
    pub async fn prepare(&self, id: &Id, workload: &Workload, progress: &Progress<'_>) -> Result<Present, RuntimeError> {
        workload.check()?;
        let Some(name) = &workload.image else {
            return Err(RuntimeError::Refused(
                "this host runs containers, not plain processes: name an image, pinned by its digest".into(),
            ));
        };
        let image = Image::parse(name)?;
        if workload.gpus && !self.gpus {
            return Err(RuntimeError::Refused(
                "this host's container engine cannot give GPUs to containers: install nvidia-container-toolkit, run \
                 `nvidia-ctk runtime configure --runtime=docker`, and restart docker"
                    .into(),
            ));
        }
        let folder = self.folder(id);
        if !folder.exists() && self.list().await?.len() >= MAX_LEASES {
            return Err(RuntimeError::Full);
        }
        let here = image.find(&self.engine).await?.is_some();
        let folders = self.folders()?;
        let mut leases = folders.iter().filter_map(|other| self.fetched(other));
        // Pulled for any lease that is here, it is to go with the last of them. Noted first: a pull that an agent does not
        // live to see the end of is one, too.
        let pulled = !here || leases.any(|other| other.image == image.reference() && other.pulled);
        (|| {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            record::write(&folder, IMAGE, &Fetched { image: image.reference(), pulled })
        })()
        .map_err(failed("note the image"))?;
        let got = image.get(&self.engine, workload.limits.disk, progress).await;
        if got.is_err() && !folders.contains(id) {
            fs::remove_dir_all(&folder).map_err(failed("forget the image"))?;
        }
        got
    }

    pub async fn start(&self, id: &Id, workload: &Workload) -> Result<(), RuntimeError> {
        if self.begun(id, workload).await? {
            return Ok(());
        }
        let image = self.prepare(id, workload, &|_| {}).await?;
        let _turn = self.changing.lock().await;
        if self.begun(id, workload).await? {
            return Ok(());
        }
        let _starting = Starting::note(self, id);
        let folder = self.folder(id);
        // What a start that was cut off may have left, or a workload that was lost. Its volumes stay.
        let found = Found { volumes: vec![], ..self.found(id).await? };
        self.clear(&found, Duration::ZERO).await?;
        self.stop_reading(id).await;
        output::begin_anew(&folder, workload.limits.log).map_err(failed("continue the output"))?;
        for left in [BEGAN, END] {
            match fs::remove_file(folder.join(left)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("forget how it was lost")(error));
                }
                _ => {}
            }
        }
        record::write(&folder, SPEC, workload).map_err(failed("keep the workload"))?;
        match self.bring_up(id, workload, &image).await {
            Ok(()) => {}
            Err(RuntimeError::NotStarted(reason)) => {
                record::write(&folder, END, &End::NotStarted(reason.clone()))
                    .map_err(failed("note that it did not start"))?;
                return Err(RuntimeError::NotStarted(reason));
            }
            // Refused, or the engine's failure: nothing is there, and it may be tried again.
            Err(error) => {
                fs::remove_file(folder.join(SPEC)).map_err(failed("forget the workload"))?;
                return Err(error);
            }
        }
        self.note_begin(id)
    }

    fn is_starting(&self, id: &Id) -> bool {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(id)
    }

    /// Notes that it began, and reads its output from then on. An agent that ended right after the start left this to the next.
    fn note_begin(&self, id: &Id) -> Result<(), RuntimeError> {
        record::write(&self.folder(id), BEGAN, &Began { boot: boot() }).map_err(failed("note that it began"))?;
        self.read_output(id)
    }

    /// Whether this workload was begun already and runs.
    async fn begun(&self, id: &Id, workload: &Workload) -> Result<bool, RuntimeError> {
        let Some(spec) = self.spec(id)? else { return Ok(false) };
        if spec != *workload {
            return Err(RuntimeError::Other(id.clone()));
        }
        match self.status(id).await? {
            // Cut off before it began, or lost.
            Status::Absent | Status::Ended(End::Lost) => Ok(false),
            Status::Running => Ok(true),
            Status::Ended(_) => Err(RuntimeError::Ended(id.clone())),
        }
    }

    async fn bring_up(&self, id: &Id, workload: &Workload, image: &Present) -> Result<(), RuntimeError> {
        let engine = &self.engine;
        let name = engine.name(id);
        let config = image.inspect.config.clone().unwrap_or_default();
        let labels = engine.labels(id);
        let mut plan = Plan {
            workload,
            image: &image.id,
            config: &config,
            name: &name,
            lease: id.as_str(),
            labels: labels.clone(),
            ready: false,
        };
        let network = engine.docker.create_network(plan.network()).await;
        network.map_err(|error| match refusal(&error) {
            Some(_) if error.to_string().contains("address pool") => RuntimeError::Engine {
                what: "make the lease's network",
                reason: "the engine has no addresses left for another network: give it more `default-address-pools` \
                         (/etc/docker/daemon.json)"
                    .into(),
            },
            _ => engine.failed("make the lease's network")(error),
        })?;
        let volumes = plan.volumes()?;
        for volume in volumes.values() {
            let request = VolumeCreateRequest {
                name: Some(volume.clone()),
                labels: Some(labels.clone()),
                ..VolumeCreateRequest::default()
            };
            engine.docker.create_volume(request).await.map_err(engine.failed("make a volume"))?;
        }
        if let Some(user) = config.user.as_deref().filter(|user| !matches!(*user, "" | "root" | "0" | "0:0" | "root:root")) {
            let none = None::<CreateContainerOptions>;
            let made = engine.docker.create_container(none, plan.attendant()?).await;
            let attendant = made.map_err(engine.failed("prepare the volumes"))?.id;
            let owned = files::give_volumes(engine, &attendant, user, volumes.keys()).await;
            self.remove_container(&attendant).await?;
            owned?;
            plan.ready = true;
        }
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        // What the engine refuses from here on is the workload's: a program that is not there, a mount that cannot be.
        let refused = |what| {
            move |error: bollard::errors::Error| match error {
                bollard::errors::Error::DockerResponseServerError { message, .. } => RuntimeError::NotStarted(message),
                error => engine.failed(what)(error),
            }
        };
        engine.docker.create_container(Some(options), plan.container()?).await.map_err(refused("make the container"))?;
        let started = engine.docker.start_container(&name, None::<StartContainerOptions>).await;
        started.map_err(refused("start the container"))
    }

    /// Where the workload is.
    pub async fn status(&self, id: &Id) -> Result<Status, RuntimeError> {
        let folder = self.folder(id);
        let ended = || record::read::<End>(&folder, END).map_err(failed("read how it ended"));
        if !folder.join(SPEC).exists() {
            return Ok(Status::Absent);
        }
        if let Some(end) = ended()? {
            return Ok(Status::Ended(end));
        }
        let began = || record::read::<Began>(&folder, BEGAN).map_err(failed("read when it began"));
        let was_begun = began()?;
        let container = self.engine.inspect(id).await?;
        let state = container.and_then(|container| container.state);
        let created = |state: &ContainerState| state.status == Some(ContainerStateStatusEnum::CREATED);
        let end = match (state, was_begun) {
            (Some(state), was_begun) if state.running == Some(true) => {
                if was_begun.is_none() && !self.is_starting(id) {
                    self.note_begin(id)?;
                }
                return Ok(Status::Running);
            }
            _ if self.starting.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(id) => {
                return Ok(Status::Running);
            }
            // The agent ended in the middle of the start.
            (None, None) => return Ok(Status::Absent),
            (Some(state), None) if created(&state) => return Ok(Status::Absent),
            (Some(state), began) => {
                let limits = self.spec(id)?.map(|spec| spec.limits.memory).unwrap_or_default();
                end_of(&state, began.is_none_or(|began| began.boot == boot()), limits)
            }
            (None, Some(_)) => End::Lost,
        };
        // Who watches the disk notes an end before he brings it about.
        if let Some(end) = ended()? {
            return Ok(Status::Ended(end));
        }
        record::write(&folder, END, &end).map_err(failed("note how it ended"))?;
        if !folder.join(BEGAN).exists() {
            self.note_begin(id)?;
        }
        Ok(Status::Ended(end))
    }

    /// Bytes that a running container sent and received.
    pub async fn traffic(&self, id: &Id) -> Result<Option<u64>, RuntimeError> {
        if self.status(id).await? != Status::Running {
            return Ok(None);
        }
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let looked = self.engine.docker.stats(&self.engine.name(id), Some(options)).next().await.transpose();
        let looked = looked.map_err(self.engine.failed("ask for the container's traffic"))?;
        let networks = looked.and_then(|stats| stats.networks);
        let bytes = |network: bollard::models::ContainerNetworkStats| {
            network.rx_bytes.unwrap_or(0).saturating_add(network.tx_bytes.unwrap_or(0))
        };
        Ok(networks.map(|networks| networks.into_values().map(bytes).fold(0, u64::saturating_add)))
    }

    pub async fn stop(&self, id: &Id, grace: Duration) -> Result<(), RuntimeError> {
        let _turn = self.changing.lock().await;
        let folder = self.folder(id);
        let found = self.found(id).await?;
        self.clear(&found, grace).await?;
        self.stop_reading(id).await;
        // Again: a start that was cut off may still have been at work in the engine.
        self.clear(&self.found(id).await?, Duration::ZERO).await?;
        let fetched: Option<Fetched> = record::read(&folder, IMAGE).map_err(failed("read which image it has"))?;
        let folders = self.folders()?;
        let mut others = folders.iter().filter(|other| *other != id).filter_map(|other| self.fetched(other));
        if let Some(fetched) = fetched.filter(|fetched| fetched.pulled && !others.any(|other| other.image == fetched.image))
        {
            Image::parse(&fetched.image)?.remove(&self.engine).await?;
        }
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove the workload's folder")(error)),
            _ => Ok(()),
        }
    }

    async fn found(&self, id: &Id) -> Result<Found, RuntimeError> {
        Ok(self.engine.find(Some(id)).await?.remove(id).unwrap_or_default())
    }

    /// Removes all that was found, containers politely first.
    async fn clear(&self, found: &Found, grace: Duration) -> Result<(), RuntimeError> {
        if found.nothing() {
            return Ok(());
        }
        for container in &found.containers {
            if !grace.is_zero() {
                self.ask_to_end(container, grace).await?;
            }
            self.remove_container(container).await?;
        }
        for network in &found.networks {
            for tries in 1.. {
                match absent_is_none(self.engine.docker.remove_network(network).await) {
                    Ok(_) => break,
                    // The container's end of it is just going.
                    Err(error) if refusal(&error) == Some(403) && tries < TRIES => time::sleep(LOOK).await,
                    Err(error) => return Err(self.engine.failed("remove the lease's network")(error)),
                }
            }
        }
        for volume in &found.volumes {
            let removed = self.engine.docker.remove_volume(volume, None::<RemoveVolumeOptions>).await;
            absent_is_none(removed).map_err(self.engine.failed("remove a volume"))?;
        }
        Ok(())
    }

    /// Sends the signal of the end, and waits for it.
    async fn ask_to_end(&self, container: &str, grace: Duration) -> Result<(), RuntimeError> {
        let options = KillContainerOptionsBuilder::new().signal("SIGTERM").build();
        match self.engine.docker.kill_container(container, Some(options)).await {
            Ok(()) => {}
            // Gone, or not running.
            Err(error) if matches!(refusal(&error), Some(404 | 409)) => return Ok(()),
            Err(error) => return Err(self.engine.failed("end the container")(error)),
        }
        let until = Instant::now() + grace;
        while Instant::now() < until {
            let looked = absent_is_none(self.engine.docker.inspect_container(container, None).await);
            let state = looked.map_err(self.engine.failed("look at the container"))?.and_then(|container| container.state);
            if state.is_none_or(|state| state.running != Some(true)) {
                break;
            }
            time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// By force, with the volumes that have no name.
    async fn remove_container(&self, container: &str) -> Result<(), RuntimeError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        for tries in 1.. {
            match absent_is_none(self.engine.docker.remove_container(container, Some(options.clone())).await) {
                Ok(_) => break,
                // It is being removed already.
                Err(error) if refusal(&error) == Some(409) && tries < TRIES => time::sleep(LOOK).await,
                Err(error) => return Err(self.engine.failed("remove the container")(error)),
            }
        }
        Ok(())
    }

    /// Reads the engine's log of a lease that began, unless that is done already.
    pub fn read_output(&self, id: &Id) -> Result<(), RuntimeError> {
        let folder = self.folder(id);
        let Some(spec) = self.spec(id)?.filter(|_| folder.join(BEGAN).exists()) else { return Ok(()) };
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.get(id).is_none_or(|reader| reader.is_finished()) {
            let reader = output::read(self.engine.clone(), folder, self.engine.name(id), spec.limits.log);
            readers.insert(id.clone(), tokio::spawn(reader));
        }
        Ok(())
    }

    /// Whether more output may come.
    pub fn is_read(&self, id: &Id) -> bool {
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.get(id).is_some_and(|reader| !reader.is_finished())
    }

    async fn stop_reading(&self, id: &Id) {
        let reader = self.readers.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some(reader) = reader {
            reader.abort();
            // Until it has let go of the folder.
            reader.await.ok();
        }
    }
}

/// Notes which lease is being started for as long as it lives.
struct Starting<'a>(&'a Inner);

impl<'a> Starting<'a> {
    fn note(inner: &'a Inner, id: &Id) -> Self {
        *inner.starting.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
        Self(inner)
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        *self.0.starting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Notes how a workload ended.
pub(super) fn note_end(folder: &Path, end: &End) -> io::Result<()> {
    record::write(folder, END, end)
}

/// What the engine's word on a container that does not run means.
fn end_of(state: &ContainerState, same_boot: bool, memory: u64) -> End {
    let code = state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
    match code {
        // One of its processes may have been killed for memory without ending it.
        1.. if state.oom_killed == Some(true) => End::OverLimit(format!("more than its {memory} bytes of memory")),
        // What the engine says when it finds at its start that a container is gone.
        255 | -1 if !same_boot => End::Lost,
        129..=192 => End::Signalled(code - 128),
        code => End::Exited(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let state = |code, oom| ContainerState { exit_code: Some(code), oom_killed: Some(oom), ..ContainerState::default() };
        assert_eq!(end_of(&state(0, false), true, 9), End::Exited(0));
        assert_eq!(end_of(&state(0, true), true, 9), End::Exited(0), "it went on without the one that was killed");
        assert_eq!(end_of(&state(137, true), true, 9), End::OverLimit("more than its 9 bytes of memory".into()));
        assert_eq!(end_of(&state(139, false), true, 9), End::Signalled(11));
        assert_eq!(end_of(&state(255, false), true, 9), End::Exited(255));
        assert_eq!(end_of(&state(255, false), false, 9), End::Lost);
        assert_eq!(end_of(&state(3, false), false, 9), End::Exited(3));
    }
}
