//! `datagalax gpu bench`: this machine's figures, the classes they fit, what that would earn and cost.

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use datagalax::{
    constants::BPS,
    math::{self, Rate},
};
use datagalax_client::amount::Ath;
use datagalax_gpu::{
    Backend, HostProbe, Probe as _, ProbeError, Settings, ask,
    backend::{Cpu, Cuda},
    bench::{self, Class, Figures, Fit, Terms},
    capacity::Limits,
};
use tokio::task::spawn_blocking;

use crate::{
    context::{Context, some},
    progress::Steps,
    report::{Cell, Report},
};

const GIB: f64 = (1u64 << 30) as f64;

/// How to measure.
#[derive(Args)]
pub struct Bench {
    /// Do not look for GPUs: measure the processor, as a host of the class cpu
    #[arg(long)]
    no_gpu: bool,
    /// Do not ask a chain for its classes: print the figures only
    #[arg(long)]
    offline: bool,
    /// Threads to compute and to hash with; without it, all of this machine's
    #[arg(long, value_name = "COUNT")]
    threads: Option<NonZeroUsize>,
    /// File of the machine id of a host without GPUs, instead of the system's
    #[arg(long, value_name = "FILE")]
    machine_id: Option<PathBuf>,
}

/// What the chain says about classes.
struct Market {
    classes: Vec<OnChain>,
    terms: Terms,
    /// The epoch whose rate that is; `None` before the first.
    epoch: Option<u32>,
}

struct OnChain {
    class: Class,
    /// Base units that a unit locks.
    stake: u64,
}

/// What is known of the machine before it is measured.
struct Machine {
    /// Hex, or why there is none.
    fingerprint: Result<String, ProbeError>,
    /// Whole memory of the smallest card in bytes; `None` without cards.
    card_memory: Option<u64>,
}

impl Bench {
    /// Measures and reports.
    ///
    /// # Errors
    /// The chain cannot be read, or a device does not work.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let steps = Steps::new();
        let market = if self.offline {
            None
        } else {
            steps.step("reading the classes on chain");
            let asked = "leave the chain out with --offline";
            Some(Market::read(context).await.with_context(|| asked)?)
        };
        let threads = self.threads.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let (no_gpu, machine_id) = (self.no_gpu, self.machine_id);
        let (machine, figures) = spawn_blocking(move || measure(no_gpu, machine_id, threads, &steps)).await??;
        Ok(report(&machine, &figures, market.as_ref(), no_gpu))
    }
}

impl Market {
    async fn read(context: &Context) -> Result<Self> {
        let network = context.network().await?;
        let coefficient = network.parameters.stake_coefficient_bps;
        let classes = context.reader.classes().await?;
        let classes = classes.iter().map(|class| OnChain {
            class: Class {
                id: class.id,
                name: class.name().to_owned(),
                minimum_memory: class.terms.minimum_vram,
                reference: class.terms.reference_throughput,
                unit_weight: class.terms.unit_weight,
                active: class.terms.active == 1,
            },
            stake: math::mul_ratio(class.terms.stake_base, coefficient.into(), BPS).unwrap_or(u64::MAX),
        });
        let classes = classes.collect();
        let epoch = some(network.current_epoch);
        let (rate, capacity_threshold) = match epoch {
            Some(number) => {
                let epoch = context.reader.epoch(number).await?;
                (epoch.rate, epoch.thresholds.capacity)
            }
            None => (Rate { hi: 0, lo: 0 }, network.parameters.capacity_threshold),
        };
        Ok(Self { classes, terms: Terms { rate, capacity_threshold }, epoch })
    }
}

fn measure(no_gpu: bool, machine_id: Option<PathBuf>, threads: NonZeroUsize, steps: &Steps) -> Result<(Machine, Figures)> {
    steps.step("looking at the hardware");
    let settings = Settings { agent_version: env!("CARGO_PKG_VERSION").to_owned(), gpus: !no_gpu, machine_id };
    let mut machine = Machine { fingerprint: Ok(String::new()), card_memory: None };
    match HostProbe::open(settings) {
        Ok(probe) => {
            let cards = probe.measure(0)?.gpus;
            machine.fingerprint = Ok(hex::encode(probe.fingerprint()));
            machine.card_memory = cards.iter().map(|card| card.memory_total).min();
        }
        // Without an identity a machine computes as well as with one.
        Err(error @ ProbeError::Fingerprint(_)) => machine.fingerprint = Err(error),
        Err(error) => return Err(error.into()),
    }
    let cards = if no_gpu { Vec::new() } else { Cuda::open_all()? };
    let gpu = !cards.is_empty();
    ensure!(
        gpu || machine.card_memory.is_none(),
        "the driver shows GPUs, but CUDA opens none: install the driver's CUDA library (libcuda), or measure the processor with --no-gpu"
    );
    let mut backends: Vec<Box<dyn Backend>> = cards.into_iter().map(|card| Box::new(card) as Box<dyn Backend>).collect();
    if !gpu {
        backends.push(Box::new(Cpu::new(threads)));
    }
    let limits = if gpu { Limits::default() } else { Limits::CPU };
    steps.step(if gpu { "finding out how much work takes eight seconds" } else { "laying out the work of the class cpu" });
    let workload = bench::workload(&mut backends, gpu, ask::SHARE, &limits, threads)?;
    steps.step(format!(
        "computing {:.3e} operations on {} {}, then checking the proof",
        workload.operations() as f64,
        workload.devices,
        if workload.devices == 1 { "device" } else { "devices" }
    ));
    let mut figures = bench::run(&mut backends, gpu, &workload, &limits, threads)?;
    if let Some(memory) = machine.card_memory {
        figures.memory = memory;
    }
    Ok((machine, figures))
}

fn report(machine: &Machine, figures: &Figures, market: Option<&Market>, no_gpu: bool) -> Report {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let devices = figures.devices.iter().enumerate().map(|(at, name)| vec![at.into(), name.as_str().into()]).collect();
    let mut report = Report::new().rows("devices", &["device", "name"], devices).fields(
        "figures",
        vec![
            ("gpu", figures.gpu.into()),
            ("units", figures.workload.devices.into()),
            ("memory_of_a_device", figures.memory.into()),
            ("memory_filled", figures.filled.into()),
            ("operations", figures.workload.operations().into()),
            ("passes", figures.workload.passes.into()),
            ("elapsed_ms", millis(figures.elapsed).into()),
            ("throughput_of_a_device", figures.throughput.into()),
            ("a_checker_verifies_in_us", u64::try_from(figures.verifying.as_micros()).unwrap_or(u64::MAX).into()),
            ("root", hex::encode(figures.root).into()),
            ("fingerprint", machine.fingerprint.as_ref().ok().map(String::as_str).into()),
        ],
    );
    if let Err(error) = &machine.fingerprint {
        report = report.note(format!("This machine cannot be registered yet: {error}."));
    }
    if let Some(market) = market {
        report = of_classes(report, figures, market, no_gpu);
    }
    let memory = if figures.gpu { format!(" --minimum-vram {}", figures.memory) } else { String::new() };
    report.note(format!(
        "As the reference of a class, an authority would put {} operations a second ({:.3e}{}), the slowest good machine of several: \
         `datagalax class create --id <ID> --name <NAME> --weight <WEIGHT> --reference-throughput {}{memory}`",
        figures.throughput,
        figures.throughput as f64,
        if figures.gpu { format!(", {:.1} GiB of memory", figures.memory as f64 / GIB) } else { String::new() },
        figures.throughput,
    ))
}

fn of_classes(report: Report, figures: &Figures, market: &Market, no_gpu: bool) -> Report {
    let classes: Vec<Class> = market.classes.iter().map(|c| c.class.clone()).collect();
    let fits = bench::fits(figures, &classes, &market.terms);
    let units = u64::from(figures.workload.devices);
    let stake = |id: u16| {
        let unit = market.classes.iter().find(|c| c.class.id == id).map_or(0, |c| c.stake);
        unit.saturating_mul(units)
    };
    let reward = |fit: &Fit| market.epoch.map(|_| Ath(fit.reward));
    let rows = fits
        .iter()
        .map(|fit| -> Vec<Cell> {
            vec![
                fit.class.id.into(),
                fit.class.name.as_str().into(),
                Cell::Percent(fit.capacity),
                reward(fit).into(),
                Ath(stake(fit.class.id)).into(),
            ]
        })
        .collect();
    let others = classes.iter().filter(|class| fits.iter().all(|fit| fit.class.id != class.id));
    let others = others
        .map(|class| vec![class.id.into(), class.name.as_str().into(), why_not(figures, class, &market.terms).into()])
        .collect();
    let report = report.rows("fits", &["class", "name", "capacity", "reward_of_an_epoch", "stake"], rows).rows(
        "does_not_fit",
        &["class", "name", "reason"],
        others,
    );
    let Some(best) = fits.first() else {
        return report.note("No class on this chain fits this machine.");
    };
    let flag = if no_gpu { " --no-gpu" } else { "" };
    let rate = match market.epoch {
        Some(epoch) => {
            format!("The reward is for full availability at the rate of epoch {epoch}; it changes with what joins.")
        }
        None => "No epoch has begun, so there is no rate to say a reward by.".to_owned(),
    };
    report.note(rate).note(format!(
        "Next: stake for the provider with `datagalax provider stake <PROVIDER> {}`, then register this machine with `datagalax container \
         register --provider <PROVIDER> --class {} --units {units} --operator <KEY OF THE AGENT> --endpoint <URL OF THE AGENT> \
         --this-host{flag}`.",
        Ath(stake(best.class.id)).to_string().replace(',', ""),
        best.class.id,
    ))
}

/// Why a machine does not fit a class: the first reason of [`bench::fits`].
fn why_not(figures: &Figures, class: &Class, terms: &Terms) -> String {
    if !class.active {
        return "takes no new containers".to_owned();
    }
    match (figures.gpu, class.minimum_memory > 0) {
        (false, true) => return "asks for GPUs, and a processor was measured".to_owned(),
        (true, false) => return "is for machines without GPUs".to_owned(),
        _ => {}
    }
    if figures.memory < class.minimum_memory {
        let (has, asks) = (figures.memory as f64 / GIB, class.minimum_memory as f64 / GIB);
        return format!("asks for {asks:.1} GiB of memory, the smallest device has {has:.1} GiB");
    }
    let percent = 100.0 * figures.throughput as f64 / class.reference.max(1) as f64;
    format!("asks for {} percent of its reference, this machine does {percent:.1}", terms.capacity_threshold)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datagalax_gpu::capacity::Demand;

    use super::*;
    use crate::options::Output;

    fn figures(gpu: bool, memory: u64, throughput: u64) -> Figures {
        Figures {
            devices: vec!["a card".into()],
            gpu,
            memory,
            filled: 7,
            workload: Demand::cpu(1).unwrap(),
            elapsed: Duration::from_millis(1_500),
            throughput,
            verifying: Duration::from_millis(9),
            root: [1; 32],
        }
    }

    fn market(epoch: Option<u32>) -> Market {
        let class = |id, minimum_memory, reference, unit_weight, active| OnChain {
            class: Class { id, name: format!("class {id}"), minimum_memory, reference, unit_weight, active },
            stake: u64::from(id) * 1_500_000,
        };
        let classes = vec![
            class(1, 0, 1_000, 1, true),
            class(2, 24 << 30, 1_000, 100, true),
            class(3, 24 << 30, 4_000, 900, true),
            class(4, 80 << 30, 1_000, 900, true),
            class(5, 24 << 30, 1_000, 900, false),
        ];
        Market { classes, terms: Terms { rate: Rate { hi: 2, lo: 0 }, capacity_threshold: 50 }, epoch }
    }

    fn machine() -> Machine {
        Machine { fingerprint: Ok("ab".into()), card_memory: None }
    }

    #[test]
    fn every_class_fits_or_has_a_reason() {
        let report = report(&machine(), &figures(true, 24 << 30, 800), Some(&market(Some(7))), false);
        let value: serde_json::Value = serde_json::from_str(&report.render(Output::Json)).unwrap();
        assert_eq!(value["fits"].as_array().unwrap().len(), 1);
        assert_eq!(value["fits"][0]["class"], 2);
        assert_eq!((&value["fits"][0]["capacity"], &value["fits"][0]["stake"]), (&80.into(), &"3000000".into()));
        assert_eq!(value["fits"][0]["reward_of_an_epoch"], (2 * 100 * 100 * 80).to_string());
        let reasons: Vec<(u64, &str)> = value["does_not_fit"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["class"].as_u64().unwrap(), row["reason"].as_str().unwrap()))
            .collect();
        assert_eq!(
            reasons,
            [
                (1, "is for machines without GPUs"),
                (3, "asks for 50 percent of its reference, this machine does 20.0"),
                (4, "asks for 80.0 GiB of memory, the smallest device has 24.0 GiB"),
                (5, "takes no new containers"),
            ]
        );
        let notes = value["notes"].to_string();
        assert!(notes.contains("datagalax provider stake <PROVIDER> 3.000000"), "{notes}");
        assert!(notes.contains("--class 2 --units 1 ") && notes.contains("--this-host`"), "{notes}");
        assert!(notes.contains("--reference-throughput 800 --minimum-vram 25769803776"), "{notes}");
    }

    #[test]
    fn before_the_first_epoch_and_without_a_fit_nothing_is_promised() {
        let cpu = figures(false, 1 << 40, 900);
        let text = report(&machine(), &cpu, Some(&market(None)), true).render(Output::Json);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["fits"][0]["class"], &value["fits"][0]["reward_of_an_epoch"]), (&1.into(), &().into()));
        assert!(text.contains("--this-host --no-gpu`") && text.contains("No epoch has begun"));
        let slow = report(&machine(), &figures(false, 1 << 40, 1), Some(&market(None)), true).render(Output::Table);
        assert!(slow.contains("No class on this chain fits") && !slow.contains("container register"));
        let offline = report(&machine(), &cpu, None, true).render(Output::Json);
        assert!(!offline.contains("\"fits\"") && offline.contains("--reference-throughput 900`"));
    }
}
