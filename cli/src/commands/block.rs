//! Blocks of 256 containers.

use anyhow::{Result, bail};
use clap::Subcommand;
use datagalax_client::instructions;

use crate::{context::Context, report::Report};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Create the next block, or grow on one that was left unfinished; --keypair pays about 0.3 SOL of rent
    Create,
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let Self::Create = self;
        let network = context.network().await?;
        // Blocks are created one after the other, so only the last can be unfinished.
        if let Some(last) = network.blocks.checked_sub(1)
            && let Some(length) = context.reader.block_len(last).await?
        {
            let steps = instructions::growth_steps(length);
            if steps > 0 {
                let signing = context.signer().await?;
                let growth = vec![instructions::grow_block(&signing.address(), last); steps];
                let landed = signing.send("grow the block", &growth).await?;
                return Ok(Report::new().sent(format!("Block {last} has its full length now."), landed));
            }
        }
        if network.free_rows > 0 {
            bail!(
                "no new block is needed: {} rows are free. Register the container; a block is created only when all are full",
                network.free_rows
            );
        }
        let signing = context.signer().await?;
        let all = instructions::create_whole_block(&signing.address(), network.blocks);
        let landed = signing.send("create the block", &all).await?;
        Ok(Report::new().sent(format!("Block {} created, with 256 free rows.", network.blocks), landed))
    }
}
