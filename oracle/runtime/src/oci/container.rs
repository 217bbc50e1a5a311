//! How a workload's container is made: all that fences it stands here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, ImageConfig, Mount,
    MountType, MountVolumeOptions, NetworkCreateRequest, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::{RuntimeError, Workload, members::MARK};

/// The workload's folder; what is copied in and out is relative to it.
pub(super) const WORKSPACE: &str = "/workspace";
/// First of the ports that are chosen here.
const FIRST_PORT: u16 = 20_000;
/// Most volumes of a container, those that its image asks for included.
const MAX_VOLUMES: usize = 32;
/// Least size of each of the engine's two log files, which hold output until it is read.
const LEAST_LOG: u64 = 64 << 20;

/// A container that is to be made.
pub(super) struct Plan<'a> {
    pub workload: &'a Workload,
    /// The image's id, as it was verified.
    pub image: &'a str,
    pub config: &'a ImageConfig,
    /// Name of its network, and beginning of its volumes' names.
    pub name: &'a str,
    pub lease: &'a str,
    pub labels: HashMap<String, String>,
    /// Its volumes were made ready by another container: the engine is not to give them back to root.
    pub ready: bool,
}

/// The number of each port.
pub(super) fn ports(workload: &Workload) -> BTreeMap<String, u16> {
    let given: BTreeSet<u16> = workload.ports.iter().map(|port| port.number).collect();
    let mut free = (FIRST_PORT..=u16::MAX).filter(|number| !given.contains(number));
    let mut number = |given| if given == 0 { free.next() } else { Some(given) };
    workload.ports.iter().filter_map(|port| Some((port.name.clone(), number(port.number)?))).collect()
}

impl Plan<'_> {
    /// Absolute paths that are volumes, each with the volume's name: the workload's folder, what the workload asks for, and
    /// what its image asks for, which the engine would make unseen otherwise.
    pub fn volumes(&self) -> Result<BTreeMap<String, String>, RuntimeError> {
        let of_image = self.config.volumes.iter().flatten().map(|path| path.trim_end_matches('/').to_owned());
        let paths = [WORKSPACE.to_owned()].into_iter().chain(self.workload.volumes.iter().cloned()).chain(of_image);
        let paths: BTreeSet<String> = paths.filter(|path| path.starts_with('/')).collect();
        if paths.len() > MAX_VOLUMES {
            return Err(RuntimeError::Refused(format!(
                "the workload and its image ask for {} volumes, and there may be {MAX_VOLUMES}",
                paths.len()
            )));
        }
        Ok(paths.into_iter().enumerate().map(|(at, path)| (path, format!("{}-{at}", self.name))).collect())
    }

    /// Its network: a bridge of its own, on which no two containers reach each other.
    pub fn network(&self) -> NetworkCreateRequest {
        NetworkCreateRequest {
            name: self.name.to_owned(),
            driver: Some("bridge".into()),
            options: Some([("com.docker.network.bridge.enable_icc".into(), "false".into())].into()),
            labels: Some(self.labels.clone()),
            ..NetworkCreateRequest::default()
        }
    }

    /// The container.
    pub fn container(&self) -> Result<ContainerCreateBody, RuntimeError> {
        let volumes = self.volumes()?;
        let folder = self.config.working_dir.clone().filter(|folder| !matches!(folder.as_str(), "" | "/"));
        let command = self.workload.command.clone();
        Ok(ContainerCreateBody {
            image: Some(self.image.to_owned()),
            // In place of the image's own, program included.
            entrypoint: (!command.is_empty()).then_some(command),
            env: Some(self.environment()),
            working_dir: Some(folder.unwrap_or_else(|| WORKSPACE.to_owned())),
            labels: Some(self.labels.clone()),
            stop_signal: Some("SIGTERM".into()),
            attach_stdin: Some(false),
            open_stdin: Some(false),
            tty: Some(false),
            host_config: Some(self.host(&volumes)),
            ..ContainerCreateBody::default()
        })
    }

    /// One like it that never runs and whose root can be written to, for the ownership of its volumes.
    pub fn attendant(&self) -> Result<ContainerCreateBody, RuntimeError> {
        let mut body = self.container()?;
        body.env = None;
        body.entrypoint = Some(vec!["never-started".into()]);
        if let Some(host) = &mut body.host_config {
            host.readonly_rootfs = Some(false);
            host.network_mode = Some("none".into());
            host.device_requests = None;
        }
        Ok(body)
    }

    fn environment(&self) -> Vec<String> {
        let mut all = BTreeMap::new();
        for entry in self.config.env.iter().flatten() {
            all.extend(entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        // The root is read-only, the user's home in it too.
        all.insert("HOME".to_owned(), WORKSPACE.to_owned());
        all.extend(self.workload.environment.clone());
        all.extend(ports(self.workload).into_iter().map(|(name, number)| (format!("PORT_{name}"), number.to_string())));
        if !self.workload.gpus {
            // Where nvidia's is the default runtime, an image could take the cards by this variable.
            all.insert("NVIDIA_VISIBLE_DEVICES".to_owned(), "void".to_owned());
        }
        all.insert(MARK.to_owned(), self.lease.to_owned());
        all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn host(&self, volumes: &BTreeMap<String, String>) -> HostConfig {
        let limits = self.workload.limits;
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let ulimit = |name: &str, most: u64| ResourcesUlimits {
            name: Some(name.into()),
            soft: Some(signed(most)),
            hard: Some(signed(most)),
        };
        let mount = |(path, name): (&String, &String)| Mount {
            typ: Some(MountType::VOLUME),
            target: Some(path.clone()),
            source: Some(name.clone()),
            volume_options: self.ready.then(|| MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
            ..Mount::default()
        };
        // Shared memory and temporary files are memory, and count as such.
        let half = limits.memory / 2;
        let tmpfs = (!volumes.contains_key("/tmp")).then(|| format!("rw,exec,nosuid,nodev,mode=1777,size={half}"));
        let gpus =
            DeviceRequest { count: Some(-1), capabilities: Some(vec![vec!["gpu".into()]]), ..DeviceRequest::default() };
        let log = [
            ("max-size".to_owned(), limits.log.max(LEAST_LOG).to_string()),
            ("max-file".to_owned(), "2".to_owned()),
            ("compress".to_owned(), "false".to_owned()),
        ];
        HostConfig {
            memory: Some(signed(limits.memory)),
            // Memory and swap together: no swap.
            memory_swap: Some(signed(limits.memory)),
            shm_size: Some(signed(half)),
            nano_cpus: (limits.millicores > 0).then(|| signed(limits.millicores.saturating_mul(1_000_000))),
            pids_limit: Some(signed(limits.processes)),
            ulimits: Some(vec![ulimit("nofile", limits.files), ulimit("core", 0), ulimit("fsize", limits.disk)]),
            device_requests: self.workload.gpus.then(|| vec![gpus]),
            mounts: Some(volumes.iter().map(mount).collect()),
            tmpfs: tmpfs.map(|options| [("/tmp".to_owned(), options)].into()),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".into()]),
            // Beside it the engine's own profile of system calls holds: it is not named here.
            security_opt: Some(vec!["no-new-privileges:true".into()]),
            privileged: Some(false),
            network_mode: Some(self.name.to_owned()),
            publish_all_ports: Some(false),
            ipc_mode: Some("private".into()),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
            // Reaps orphans, and hands on the signal of the end, which a first process would be deaf to.
            init: Some(true),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            auto_remove: Some(false),
            log_config: Some(HostConfigLogConfig { typ: Some("local".into()), config: Some(log.into()) }),
            ..HostConfig::default()
        }
    }
}
