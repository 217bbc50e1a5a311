//! The container engine: its socket, its words, and what in it is ours.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, ClientVersion, Docker,
    errors::Error,
    models::{ContainerInspectResponse, SystemInfo},
    query_parameters::{
        InspectContainerOptions, ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    },
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::UnixStream, time};

use crate::{Id, RuntimeError, error::failed};

/// The label that names a lease.
const LEASE: &str = "org.datagalax.lease";
/// The label that names the runtime's folder, so that two agents on one host do not take each other's containers for their own.
const RUNTIME: &str = "org.datagalax.runtime";
/// Longest wait for the engine to begin an answer.
const ANSWER: Duration = Duration::from_secs(120);
/// Longest wait for what moves many bytes.
const LONG_ANSWER: Duration = Duration::from_secs(3_600);
/// Most bytes of an answer about disk usage, and longest wait for it.
const MAX_USAGE: usize = 64 << 20;
const USAGE: Duration = Duration::from_secs(60);
/// Newest version of the API whose answer about disk usage is read here.
const USAGE_VERSION: (usize, usize) = (1, 51);

/// A container engine that speaks the Docker API on a unix socket.
#[derive(Clone)]
pub(super) struct Engine {
    pub docker: Docker,
    socket: PathBuf,
    /// The value of [`RUNTIME`].
    runtime: String,
}

/// What of leases is in the engine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub containers: Vec<String>,
    pub networks: Vec<String>,
    pub volumes: Vec<String>,
}

impl Found {
    pub fn nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Engine {
    /// The engine at a unix socket, for the runtime in this folder. Does not say yet whether anyone answers.
    pub fn new(socket: &Path, runtime: &Path) -> Result<Self, RuntimeError> {
        let text =
            socket.to_str().ok_or_else(|| RuntimeError::Setting("the engine's socket must have a path in UTF-8".into()))?;
        // As the library says, the default is the newest that it knows; what the engine speaks is agreed on later.
        let version: &ClientVersion = API_DEFAULT_VERSION;
        let docker =
            Docker::connect_with_unix(text, ANSWER.as_secs(), version).map_err(|error| unreachable(socket, &error))?;
        Ok(Self { docker, socket: socket.to_owned(), runtime: runtime.display().to_string() })
    }

    /// Agrees on a version, and looks at what the engine can do.
    pub async fn greet(&mut self) -> Result<SystemInfo, RuntimeError> {
        let agreed = self.docker.clone().negotiate_version().await.map_err(self.failed("greet the container engine"))?;
        self.docker = agreed;
        let info = self.docker.info().await.map_err(self.failed("ask the container engine what it can do"))?;
        let can = |name: &str, able: Option<bool>| {
            let error =
                format!("the container engine cannot limit {name} on this host: enable that controller of its cgroups");
            able.unwrap_or(false).then_some(()).ok_or(RuntimeError::Setting(error))
        };
        can("memory", info.memory_limit)?;
        can("processes", info.pids_limit)?;
        can("processor time", info.cpu_cfs_quota)?;
        let options = info.security_options.as_deref().unwrap_or_default();
        if !options.iter().any(|option| option.contains("name=seccomp") && !option.contains("unconfined")) {
            return Err(RuntimeError::Setting(
                "the container engine runs without its seccomp profile: remove `seccomp-profile` from its configuration"
                    .into(),
            ));
        }
        Ok(info)
    }

    /// The same engine, for what moves many bytes.
    pub fn patient(&self) -> Docker {
        self.docker.clone().with_timeout(LONG_ANSWER)
    }

    /// Says of the engine's error what was attempted.
    pub fn failed(&self, what: &'static str) -> impl FnOnce(Error) -> RuntimeError + use<> {
        let socket = self.socket.clone();
        move |error| match error {
            Error::DockerResponseServerError { message, .. } => RuntimeError::Engine { what, reason: message },
            Error::DockerStreamError { error } => RuntimeError::Engine { what, reason: error },
            Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => {
                RuntimeError::Engine { what, reason: format!("the engine's answer cannot be read: {error}") }
            }
            error => unreachable(&socket, &error),
        }
    }

    /// Name of a lease's container and network, and beginning of its volumes' names.
    pub fn name(&self, id: &Id) -> String {
        format!("datagalax-{id}")
    }

    pub fn labels(&self, id: &Id) -> HashMap<String, String> {
        [(LEASE, id.as_str()), (RUNTIME, &self.runtime)].map(|(label, value)| (label.to_owned(), value.to_owned())).into()
    }

    /// What is there of leases, by lease; with `id`, of that one.
    pub async fn find(&self, id: Option<&Id>) -> Result<BTreeMap<Id, Found>, RuntimeError> {
        let lease = id.map_or_else(|| LEASE.to_owned(), |id| format!("{LEASE}={id}"));
        let filters = HashMap::from([("label", vec![lease, format!("{RUNTIME}={}", self.runtime)])]);
        let mut found: BTreeMap<Id, Found> = BTreeMap::new();
        let lease = |labels: &HashMap<String, String>| labels.get(LEASE)?.parse::<Id>().ok();
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        for container in self.docker.list_containers(Some(options)).await.map_err(self.failed("list the containers"))? {
            if let Some((lease, name)) = lease(&container.labels.unwrap_or_default()).zip(container.id) {
                found.entry(lease).or_default().containers.push(name);
            }
        }
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        for network in self.docker.list_networks(Some(options)).await.map_err(self.failed("list the networks"))? {
            if let Some((lease, name)) = lease(&network.labels.unwrap_or_default()).zip(network.id) {
                found.entry(lease).or_default().networks.push(name);
            }
        }
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let volumes = self.docker.list_volumes(Some(options)).await.map_err(self.failed("list the volumes"))?;
        for volume in volumes.volumes.unwrap_or_default() {
            if let Some(lease) = lease(&volume.labels) {
                found.entry(lease).or_default().volumes.push(volume.name);
            }
        }
        Ok(found)
    }

    /// A lease's container.
    pub async fn inspect(&self, id: &Id) -> Result<Option<ContainerInspectResponse>, RuntimeError> {
        let inspected = self.docker.inspect_container(&self.name(id), None::<InspectContainerOptions>).await;
        absent_is_none(inspected).map_err(self.failed("look at the container"))
    }

    /// Bytes on disk of every volume of the engine's.
    pub async fn volume_sizes(&self) -> Result<HashMap<String, u64>, RuntimeError> {
        let what = "ask the container engine for disk usage";
        let asking = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(failed(what))?;
            let broken = |error: hyper::Error| RuntimeError::Engine { what, reason: error.to_string() };
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
            let agreed = self.docker.client_version();
            let (major, minor) = USAGE_VERSION.min((agreed.major_version, agreed.minor_version));
            // Read here and not by the library, which knows only the newest form of the answer.
            let request = Request::get(format!("/v{major}.{minor}/system/df?type=volume")).header(HOST, "docker");
            let request = request
                .body(Empty::<Bytes>::new())
                .map_err(|error| RuntimeError::Engine { what, reason: error.to_string() })?;
            let answering = async {
                let answer = sender.send_request(request).await.map_err(broken)?;
                let status = answer.status();
                let body = Limited::new(answer.into_body(), MAX_USAGE).collect().await;
                let body = body.map_err(|error| RuntimeError::Engine { what, reason: error.to_string() })?.to_bytes();
                if !status.is_success() {
                    return Err(RuntimeError::Engine { what, reason: String::from_utf8_lossy(&body).into_owned() });
                }
                let usage: Usage = serde_json::from_slice(&body).map_err(|error| failed(what)(error.into()))?;
                let sized = |volume: Volume| Some((volume.name, u64::try_from(volume.usage_data?.size).ok()?));
                Ok(usage.volumes.unwrap_or_default().into_iter().filter_map(sized).collect())
            };
            beside(answering, connection).await
        };
        let late = || RuntimeError::Engine { what, reason: "no answer within a minute".into() };
        time::timeout(USAGE, asking).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Answers with `work`, which needs `other` to be driven meanwhile.
async fn beside<T>(work: impl Future<Output = T>, other: impl Future) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        answer = &mut work => answer,
        _ = other => work.await,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Usage {
    volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    name: String,
    usage_data: Option<VolumeUsage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeUsage {
    /// -1 when it is not known.
    size: i64,
}

fn unreachable(socket: &Path, error: &Error) -> RuntimeError {
    RuntimeError::Engine {
        what: "reach the container engine",
        reason: format!(
            "{error} (at {}): see that it runs (`systemctl status docker`) and that this user may use it (group docker)",
            socket.display()
        ),
    }
}

/// The status of the engine's refusal.
pub(super) fn refusal(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What is not there is no error.
pub(super) fn absent_is_none<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if refusal(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}
