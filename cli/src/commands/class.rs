//! Classes of hardware.

use anyhow::Result;
use clap::{Args, Subcommand};
use datagalax_client::{
    amount::Ath,
    instructions::{self, CreateClassArgs},
};

use super::{ath, padded};
use crate::{
    context::Context,
    report::{Cell, Report},
};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Add a class; --keypair is the network's authority
    Create(Create),
    /// All classes
    List,
}

/// A new class.
#[derive(Args)]
pub struct Create {
    /// Id, 0 to 65,535, free to choose
    #[arg(long)]
    id: u16,
    /// Name, at most 32 bytes, such as h100 or cpu
    #[arg(long, value_parser = padded::<32>)]
    name: [u8; 32],
    /// Weight of one unit; 0 earns nothing
    #[arg(long)]
    weight: u16,
    /// Throughput of one unit that is 100 percent capacity, operations a second
    #[arg(long, value_name = "OPS")]
    reference_throughput: u64,
    /// Stake that a container locks for each unit, ATH
    #[arg(long, value_parser = ath, default_value = "0", value_name = "ATH")]
    stake_base: u64,
    /// Least memory of one unit, bytes
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    minimum_vram: u64,
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Create(class) => create(context, class).await,
            Self::List => list(context).await,
        }
    }
}

async fn create(context: &Context, class: Create) -> Result<Report> {
    context.network().await?;
    let signing = context.signer().await?;
    let args = CreateClassArgs {
        id: class.id,
        name: class.name,
        stake_base: class.stake_base,
        unit_weight: class.weight,
        minimum_vram: class.minimum_vram,
        reference_throughput: class.reference_throughput,
    };
    let landed = signing.send("create the class", &[instructions::create_class(&signing.address(), args)]).await?;
    Ok(Report::new().sent(format!("Class {} created.", class.id), landed))
}

async fn list(context: &Context) -> Result<Report> {
    context.network().await?;
    let rows = context
        .reader
        .classes()
        .await?
        .iter()
        .map(|c| -> Vec<Cell> {
            vec![
                c.id.into(),
                c.name().into(),
                (c.active == 1).into(),
                c.unit_weight.into(),
                Ath(c.stake_base).into(),
                c.minimum_vram.into(),
                c.reference_throughput.into(),
            ]
        })
        .collect();
    let columns = ["id", "name", "active", "weight", "stake_base", "minimum_vram", "reference_throughput"];
    Ok(Report::new().rows("classes", &columns, rows))
}
