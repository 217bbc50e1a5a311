//! Classes of hardware.

use anyhow::Result;
use clap::{Args, Subcommand};
use datagalax_client::{
    amount::Ath,
    instructions::{self, ClassTerms, CreateClassArgs},
};

use super::{ath, padded};
use crate::{
    context::Context,
    report::{Cell, Report},
    time::utc,
};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Add a class; --keypair is the network's authority
    Create(Create),
    /// Propose other terms for a class; what is not named stays as it is; --keypair is the network's authority
    Update(Update),
    /// Put proposed terms into force, once the time lock has run out; anybody may
    Apply {
        /// Class's id
        id: u16,
    },
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

/// Other terms. Containers keep those they registered under.
#[derive(Args)]
pub struct Update {
    /// Class's id
    id: u16,
    /// Weight of one unit; 0 earns nothing
    #[arg(long)]
    weight: Option<u16>,
    /// Throughput of one unit that is 100 percent capacity, operations a second
    #[arg(long, value_name = "OPS")]
    reference_throughput: Option<u64>,
    /// Stake that a container locks for each unit, ATH
    #[arg(long, value_parser = ath, value_name = "ATH")]
    stake_base: Option<u64>,
    /// Least memory of one unit, bytes
    #[arg(long, value_name = "BYTES")]
    minimum_vram: Option<u64>,
    /// Whether new containers may register
    #[arg(long, action = clap::ArgAction::Set, value_name = "true|false")]
    active: Option<bool>,
}

impl Update {
    fn terms(&self, now: &ClassTerms) -> ClassTerms {
        ClassTerms {
            stake_base: self.stake_base.unwrap_or(now.stake_base),
            minimum_vram: self.minimum_vram.unwrap_or(now.minimum_vram),
            reference_throughput: self.reference_throughput.unwrap_or(now.reference_throughput),
            unit_weight: self.weight.unwrap_or(now.unit_weight),
            active: self.active.map_or(now.active, u8::from),
            reserved: [0; 5],
        }
    }
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Create(class) => create(context, class).await,
            Self::Update(update) => self::update(context, update).await,
            Self::Apply { id } => apply(context, id).await,
            Self::List => list(context).await,
        }
    }
}

async fn create(context: &Context, class: Create) -> Result<Report> {
    context.network().await?;
    let signing = context.signer().await?;
    let terms = ClassTerms {
        stake_base: class.stake_base,
        minimum_vram: class.minimum_vram,
        reference_throughput: class.reference_throughput,
        unit_weight: class.weight,
        active: 1,
        reserved: [0; 5],
    };
    let args = CreateClassArgs { id: class.id, name: class.name, terms };
    let landed = signing.send("create the class", &[instructions::create_class(&signing.address(), args)]).await?;
    let created = context.reader.class(class.id).await?;
    let said = match created.pending_at {
        0 => "containers may register in it".to_owned(),
        at => format!("its terms may be applied from {}", utc(at)),
    };
    Ok(Report::new().sent(format!("Class {} created: {said}.", class.id), landed))
}

async fn update(context: &Context, update: Update) -> Result<Report> {
    context.network().await?;
    let class = context.reader.class(update.id).await?;
    let terms = update.terms(&class.terms);
    let signing = context.signer().await?;
    let instruction = instructions::update_class(&signing.address(), update.id, terms);
    let landed = signing.send("propose terms of the class", &[instruction]).await?;
    let class = context.reader.class(update.id).await?;
    let said = format!("Terms of class {} proposed: they may be applied from {}.", update.id, utc(class.pending_at));
    Ok(Report::new().fields("proposed", fields(&class.pending)).sent(said, landed))
}

async fn apply(context: &Context, id: u16) -> Result<Report> {
    context.network().await?;
    let signing = context.signer().await?;
    let landed = signing.send("apply terms of the class", &[instructions::apply_class(id)]).await?;
    let class = context.reader.class(id).await?;
    Ok(Report::new().fields("terms", fields(&class.terms)).sent(format!("Terms of class {id} are in force."), landed))
}

fn fields(terms: &ClassTerms) -> Vec<(&'static str, Cell)> {
    vec![
        ("active", (terms.active == 1).into()),
        ("weight", terms.unit_weight.into()),
        ("stake_base", Ath(terms.stake_base).into()),
        ("minimum_vram", terms.minimum_vram.into()),
        ("reference_throughput", terms.reference_throughput.into()),
    ]
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
                (c.terms.active == 1).into(),
                c.terms.unit_weight.into(),
                Ath(c.terms.stake_base).into(),
                c.terms.minimum_vram.into(),
                c.terms.reference_throughput.into(),
                if c.pending_at == 0 { Cell::None } else { Cell::Time(c.pending_at) },
            ]
        })
        .collect();
    let columns = ["id", "name", "active", "weight", "stake_base", "minimum_vram", "reference_throughput", "pending_until"];
    Ok(Report::new().rows("classes", &columns, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_update_does_not_name_stays() {
        let now = ClassTerms {
            stake_base: 1,
            minimum_vram: 2,
            reference_throughput: 3,
            unit_weight: 4,
            active: 1,
            reserved: [0; 5],
        };
        let none =
            Update { id: 0, weight: None, reference_throughput: None, stake_base: None, minimum_vram: None, active: None };
        assert_eq!(none.terms(&now), now);
        let closed = Update { active: Some(false), weight: Some(9), ..none };
        assert_eq!(closed.terms(&now), ClassTerms { active: 0, unit_weight: 9, ..now });
    }
}
