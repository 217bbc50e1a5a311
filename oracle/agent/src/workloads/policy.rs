//! What this host takes on. Pure.

use datagalax_protocol::lease;
use datagalax_runtime::{Limits, Port, Workload};

/// What leases may be and use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Beginnings of the images that are taken; empty: any.
    pub images: Vec<String>,
    /// Whether workloads with an image are taken.
    pub takes_images: bool,
    /// Whether plain processes are taken.
    pub takes_processes: bool,
    /// Whether this host's cards are given to workloads.
    pub gpus: bool,
    /// Most that a workload may use.
    pub limits: Limits,
}

impl Policy {
    /// What is run of a workload that is taken on.
    ///
    /// # Errors
    /// Why it is not, in a sentence for its user.
    pub fn judge(&self, workload: &lease::Workload) -> Result<Workload, String> {
        match &workload.image {
            Some(_) if !self.takes_images => {
                return Err("this host runs plain processes only: leave the image out, or choose another host".into());
            }
            None if !self.takes_processes => {
                return Err("this host runs images only: name an image pinned by its digest, or choose another host".into());
            }
            Some(image) if !self.images.is_empty() && !self.images.iter().any(|start| image.starts_with(start.as_str())) => {
                let allowed = self.images.join(", ");
                return Err(format!("this host takes only images that begin with {allowed}; this one is {image}"));
            }
            _ => {}
        }
        let Limits { memory, disk, .. } = self.limits;
        let within = |what: &str, asked: u64, most: u64| match asked {
            0 => Ok(most),
            asked if asked <= most => Ok(asked),
            asked => {
                Err(format!("the workload asks for {asked} bytes of {what}, and this host gives leases at most {most}"))
            }
        };
        let limits = Limits {
            memory: within("memory", workload.memory, memory)?,
            disk: within("disk", workload.disk, disk)?,
            ..self.limits
        };
        let port = |port: &lease::Port| Port { name: port.name.clone(), number: port.number };
        let run = Workload {
            image: workload.image.clone(),
            command: workload.command.clone(),
            environment: workload.environment.clone(),
            ports: workload.ports.iter().map(port).collect(),
            volumes: workload.volumes.clone(),
            gpus: self.gpus,
            limits,
        };
        run.check().map_err(|invalid| invalid.to_string())?;
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let limits = Limits { memory: 1 << 30, disk: 1 << 31, ..Limits::default() };
        Policy { images: Vec::new(), takes_images: true, takes_processes: true, gpus: false, limits }
    }

    fn image() -> lease::Workload {
        let image = Some(format!("ghcr.io/a/b:1@sha256:{}", "0f".repeat(32)));
        lease::Workload { image, ..lease::Workload::default() }
    }

    fn process() -> lease::Workload {
        lease::Workload { command: vec!["true".into()], ..lease::Workload::default() }
    }

    #[test]
    fn what_is_not_asked_for_is_what_the_host_gives() {
        let run = policy().judge(&process()).unwrap();
        assert_eq!(run.limits, policy().limits);
        let asks = lease::Workload { memory: 5 << 20, disk: 6 << 20, ..process() };
        let limits = policy().judge(&asks).unwrap().limits;
        assert_eq!((limits.memory, limits.disk, limits.processes), (5 << 20, 6 << 20, policy().limits.processes));
    }

    #[test]
    fn what_is_refused_is_refused_with_what_would_be_taken() {
        let refused = |policy: &Policy, workload: &lease::Workload| policy.judge(workload).unwrap_err();
        let listed = Policy { images: vec!["docker.io/".into(), "ghcr.io/a/".into()], ..policy() };
        listed.judge(&image()).unwrap();
        listed.judge(&process()).unwrap();
        let elsewhere = lease::Workload { image: image().image.map(|image| image.replace("/a/", "/aa/")), ..image() };
        assert!(refused(&listed, &elsewhere).contains("docker.io/, ghcr.io/a/"));
        assert!(refused(&Policy { takes_images: false, ..policy() }, &image()).contains("plain processes only"));
        assert!(refused(&Policy { takes_processes: false, ..policy() }, &process()).contains("images only"));
        let greedy = lease::Workload { memory: (1 << 30) + 1, ..process() };
        assert!(refused(&policy(), &greedy).contains("of memory, and this host gives leases at most 1073741824"));
        let greedy = lease::Workload { disk: u64::MAX, ..process() };
        assert!(refused(&policy(), &greedy).contains("of disk"));
    }
}
