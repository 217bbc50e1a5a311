//! Leasing containers without following them.

use anyhow::Result;
use clap::Args;
use datagalax::state::Lease;
use datagalax_client::{Address, amount::Ath};
use futures_util::future::join_all;

use crate::{
    context::Context,
    lease::{
        coming_up::{self, CameUp},
        host,
        opening::{Opened, Opening},
        reason,
        workload::WorkloadOptions,
    },
    progress::Steps,
    report::{Cell, Report},
};

/// What is leased, and what runs on it.
#[derive(Args)]
pub struct Rent {
    /// This container; repeat it for several
    #[arg(long, conflicts_with_all = ["class", "gpus", "vram", "region", "count"], value_name = "ADDRESS")]
    container: Vec<Address>,
    /// How many containers, the cheapest that fit; all or none
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..), value_name = "COUNT")]
    count: u8,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    workload: WorkloadOptions,
}

const COLUMNS: [&str; 6] = ["lease", "container", "state", "ended_because", "escrowed", "refunded"];

impl Rent {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let workload = self.workload.workload(rand::random())?;
        let network = context.network().await?;
        let signing = context.signer().await?;
        let offers = self.opening.choose(&context.reader, &self.container, self.count.into()).await?;
        let (opened, landed) = self.opening.open(context, &signing, &network, &offers, &workload).await?;
        let said = if opened.len() == 1 { "Lease opened.".to_owned() } else { format!("{} leases opened.", opened.len()) };
        let mut report = Report::new().sent(said, landed);

        let steps = Steps::new();
        let reader = &context.reader;
        let (steps, signing, workload) = (&steps, &signing, &workload);
        let one = |opened: Opened| async move {
            let (tenant, _) = host::of(reader, signing.key(), &opened.lease).await?;
            let tell = |text: String| steps.goes_on(format!("{}: {text}", opened.container));
            coming_up::bring_up(reader, signing, &tenant, &opened.lease, workload, tell).await
        };
        let outcomes = join_all(opened.iter().map(|opened| one(*opened))).await;
        let mut rows = Vec::new();
        let mut notes = Vec::new();
        let mut running = 0;
        for (opened, outcome) in opened.iter().zip(outcomes) {
            let Opened { lease: address, container } = *opened;
            match outcome {
                Ok(CameUp { seen, refusal }) => {
                    let lease = &seen.lease;
                    rows.push(vec![
                        address.into(),
                        container.into(),
                        reason::state(lease).into(),
                        reason::word(lease).into(),
                        Ath(lease.escrowed).into(),
                        Ath(lease.refunded).into(),
                    ]);
                    if lease.status == Lease::STARTED {
                        running += 1;
                        continue;
                    }
                    context.leases()?.remove(&address)?;
                    let host = refusal.map(|why| format!(" Its host says: {why}.")).unwrap_or_default();
                    notes.push(format!("Container {container}: {}{host}", reason::sentence(lease).unwrap_or_default()));
                }
                Err(error) => {
                    let unknown =
                        |cell: Cell| vec![address.into(), container.into(), cell, Cell::None, Cell::None, Cell::None];
                    rows.push(unknown("unknown".into()));
                    notes.push(format!("Container {container}: {error:#}. Try `datagalax lease hand-over {address}`."));
                }
            }
        }
        report = report.rows("leases", &COLUMNS, rows);
        report = notes.into_iter().fold(report, Report::note);
        if running > 0 {
            let example = opened.first().map_or_else(String::new, |opened| opened.lease.to_string());
            report = report.note(format!(
                "{running} of {} run. Follow one with `datagalax lease logs -f {example}`, end it with `datagalax lease close {example}`.",
                opened.len()
            ));
        }
        Ok(if running == opened.len() { report } else { report.ends_with(1) })
    }
}
