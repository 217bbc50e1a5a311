use anchor_lang::prelude::*;

use super::OperateContainer;
use crate::{
    clock::{after, now},
    constants::{DAY, MAINTENANCE_A_MONTH, MAINTENANCE_NOTICE},
    error::DatagalaxError,
    events::MaintenanceAnnounced,
};

/// Days of the month that maintenance is counted by.
const MONTH: i64 = 30 * DAY;
/// The furthest ahead that maintenance may be announced, seconds.
const FURTHEST: u32 = 90 * 86_400;

/// Specification
/// 1. The provider's operator (or owner) signs; it begins 24 hours ahead or later.
/// 2. What is announced for one month of 30 days lasts at most 8 hours in all. An announcement that has not begun is replaced and
///    does not count. None is for a month before that of the last one, whose hours are forgotten.
/// 3. It excuses from breach, not from pay, and only for leases opened after this announcement. The last one that took place goes
///    on to excuse.
#[inline(never)]
pub fn announce_maintenance(ctx: &mut Context<OperateContainer>, start: i64, end: i64) -> Result<()> {
    let now = now()?;
    let address = *ctx.accounts.container.address();
    let container = &mut *ctx.accounts.container;
    // 1.
    require!(
        start >= after(now, MAINTENANCE_NOTICE)
            && start <= after(now, FURTHEST)
            && end > start
            && end <= after(start, MAINTENANCE_A_MONTH),
        DatagalaxError::BadMaintenance
    );
    // Attack: replace maintenance that is going on, and so have used none of it.
    require!(now < container.maintenance_start || now >= container.maintenance_end, DatagalaxError::BadMaintenance);

    // 2. Positive: within 8 hours of each other.
    let length = (end - start) as u32;
    let month = (start / MONTH) as u32;
    // Attack: announce for the next month and replace that by more hours in this one.
    require!(month >= container.maintenance_month, DatagalaxError::BadMaintenance);
    let mut used = if container.maintenance_month == month { container.maintenance_used } else { 0 };
    if now < container.maintenance_start && (container.maintenance_start / MONTH) as u32 == month {
        used = used.saturating_sub(container.maintenance_end.saturating_sub(container.maintenance_start) as u32);
    }
    let used = used.saturating_add(length);
    require!(used <= MAINTENANCE_A_MONTH, DatagalaxError::BadMaintenance);

    // 3. Attack: report what took place as a breach, once the next is announced.
    if now >= container.maintenance_end {
        container.past_announced = container.maintenance_announced;
        container.past_start = container.maintenance_start;
        container.past_end = container.maintenance_end;
    }
    container.maintenance_announced = now;
    container.maintenance_start = start;
    container.maintenance_end = end;
    container.maintenance_month = month;
    container.maintenance_used = used;
    ctx.accounts.event_authority.emit(&MaintenanceAnnounced { container: address, start, end });
    ctx.accounts.container.invariant()
}
