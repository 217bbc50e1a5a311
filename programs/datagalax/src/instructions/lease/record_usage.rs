use anchor_lang::prelude::*;

use crate::{
    checked::Account,
    clock::now,
    error::DatagalaxError,
    state::{Container, Lease},
};

#[derive(Accounts)]
pub struct RecordUsage {
    pub operator: Signer,
    #[account(constraint = container.operator == *operator.address() @ DatagalaxError::Unauthorized)]
    pub container: Account<Container>,
    #[account(mut, constraint = lease.container == *container.address() @ DatagalaxError::WrongAccount)]
    pub lease: Account<Lease>,
}

/// Specification
/// 1. The container's operator signs; the lease runs or has ended.
/// 2. Usage is cumulative: no figure falls, and GPU-seconds never exceed the GPUs times the time that passed.
/// 3. Note it, as the host's own word: nothing is paid or ranked by it.
#[inline(never)]
pub fn record_usage(ctx: &mut Context<RecordUsage>, gpu_seconds: u64, energy: u64, bytes: u64) -> Result<()> {
    let now = now()?;
    let gpus = u64::from(ctx.accounts.container.gpus);
    let lease = &mut *ctx.accounts.lease;
    // 1.
    require!(lease.status == Lease::STARTED || lease.status == Lease::ENDED, DatagalaxError::WrongLeaseState);

    // 2.
    let passed = now.min(lease.end()).saturating_sub(lease.started).max(0) as u64;
    require!(
        gpu_seconds >= lease.usage_gpu_seconds
            && energy >= lease.usage_energy
            && bytes >= lease.usage_bytes
            && gpu_seconds <= passed.saturating_mul(gpus),
        DatagalaxError::UsageWentBack
    );

    // 3.
    lease.usage_gpu_seconds = gpu_seconds;
    lease.usage_energy = energy;
    lease.usage_bytes = bytes;
    lease.invariant()
}
