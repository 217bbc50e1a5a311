//! Actions: data that proptest can shrink. Their small numbers are read against the present state, so that what is left of a
//! shortened list still means something.

use datagalax::state::{ClassTerms, Proposal, VestingTerms};
use datagalax_program_tests::settings::ATH;
use proptest::prelude::*;
use solana_pubkey::Pubkey;

use crate::{
    calls::other_terms,
    model::{ContainerId, LeaseId, LeaseState, Matched, Model, Op, Party, Source, Target, TicketState},
    people::People,
    run::{self, Run, Setup, WAITS},
};

/// One action.
#[derive(Clone, Debug)]
pub enum Action {
    /// Time passes.
    Wait(u8),
    /// More slots than the chain keeps hashes of pass, and no time.
    Slots,
    /// An instruction, by the right signer unless `by` is high.
    Call { what: &'static str, by: u8, a: u8, b: u8, c: u8 },
    /// The last instruction again.
    Again,
    /// Whole epochs with all that is due in them; what the committees report.
    Epochs { count: u8, profile: u8, row: u8 },
    /// Two calls that anybody may make, in both orders.
    BothOrders { a: u8, b: u8 },
}

/// Every instruction, and how often it is drawn.
pub const INSTRUCTIONS: &[(&str, u32)] = &[
    ("initialize_network", 1),
    ("create_class", 1),
    ("fund_rewards", 2),
    ("propose", 6),
    ("apply_proposal", 12),
    ("cancel_proposal", 1),
    ("propose_authority", 2),
    ("accept_authority", 3),
    ("pause", 2),
    ("unpause", 4),
    ("register_provider", 1),
    ("stake", 4),
    ("request_unstake", 4),
    ("restore_stake", 10),
    ("create_block", 1),
    ("grow_block", 1),
    ("register_container", 6),
    ("update_container", 4),
    ("rotate_container_operator", 1),
    ("announce_maintenance", 3),
    ("deregister_container", 3),
    ("vacate_row", 5),
    ("register_checker", 1),
    ("register_tickets", 4),
    ("commit_report", 4),
    ("reveal_report", 6),
    ("leave_tickets", 4),
    ("withdraw_tickets", 6),
    ("advance_epoch", 8),
    ("churn", 6),
    ("draw", 8),
    ("seat_block", 8),
    ("tally_block", 8),
    ("register_keeper", 1),
    ("claim_rewards", 10),
    ("claim_seat_pay", 10),
    ("update_class", 2),
    ("apply_class", 3),
    ("sweep_vault", 4),
    ("withdraw", 16),
    ("withdraw_treasury", 4),
    ("close_account", 8),
    ("rotate_keys", 2),
    ("propose_owner", 2),
    ("accept_owner", 3),
    ("open_lease", 30),
    ("start_lease", 26),
    ("reject_lease", 2),
    ("cancel_lease", 5),
    ("top_up_lease", 5),
    ("record_usage", 3),
    ("settle_lease", 18),
    ("close_lease", 10),
    ("open_case", 12),
    ("close_case", 12),
    ("report_breach", 10),
    ("release_row", 6),
    ("register_indexer", 1),
    ("update_indexer", 1),
    ("leave_indexer", 1),
];

/// The name of an operation's instruction.
pub fn name(op: &Op) -> &'static str {
    match op {
        Op::InitializeNetwork { .. } => "initialize_network",
        Op::CreateClass { .. } => "create_class",
        Op::UpdateClass { .. } => "update_class",
        Op::ApplyClass { .. } => "apply_class",
        Op::FundRewards { .. } => "fund_rewards",
        Op::Propose { .. } => "propose",
        Op::ApplyProposal => "apply_proposal",
        Op::CancelProposal { .. } => "cancel_proposal",
        Op::ProposeAuthority { .. } => "propose_authority",
        Op::AcceptAuthority { .. } => "accept_authority",
        Op::Pause { .. } => "pause",
        Op::Unpause { .. } => "unpause",
        Op::SweepVault { .. } => "sweep_vault",
        Op::WithdrawTreasury => "withdraw_treasury",
        Op::RegisterProvider { .. } => "register_provider",
        Op::Stake { .. } => "stake",
        Op::RequestUnstake { .. } => "request_unstake",
        Op::RestoreStake { .. } => "restore_stake",
        Op::CreateBlock { .. } => "create_block",
        Op::GrowBlock { .. } => "grow_block",
        Op::RegisterContainer { .. } => "register_container",
        Op::UpdateContainer { .. } => "update_container",
        Op::RotateContainerOperator { .. } => "rotate_container_operator",
        Op::AnnounceMaintenance { .. } => "announce_maintenance",
        Op::DeregisterContainer { .. } => "deregister_container",
        Op::VacateRow { .. } => "vacate_row",
        Op::RegisterChecker { .. } => "register_checker",
        Op::RegisterTickets { .. } => "register_tickets",
        Op::LeaveTickets { .. } => "leave_tickets",
        Op::WithdrawTickets { .. } => "withdraw_tickets",
        Op::CommitReport { .. } => "commit_report",
        Op::RevealReport { .. } => "reveal_report",
        Op::AdvanceEpoch { .. } => "advance_epoch",
        Op::Churn => "churn",
        Op::Draw { .. } => "draw",
        Op::SeatBlock { .. } => "seat_block",
        Op::TallyBlock { .. } => "tally_block",
        Op::RegisterKeeper { .. } => "register_keeper",
        Op::ClaimRewards { .. } => "claim_rewards",
        Op::ClaimSeatPay { .. } => "claim_seat_pay",
        Op::Withdraw { .. } => "withdraw",
        Op::CloseAccount { .. } => "close_account",
        Op::RotateKeys { .. } => "rotate_keys",
        Op::ProposeOwner { .. } => "propose_owner",
        Op::AcceptOwner { .. } => "accept_owner",
        Op::OpenLease { .. } => "open_lease",
        Op::StartLease { .. } => "start_lease",
        Op::RejectLease { .. } => "reject_lease",
        Op::CancelLease { .. } => "cancel_lease",
        Op::TopUpLease { .. } => "top_up_lease",
        Op::RecordUsage { .. } => "record_usage",
        Op::SettleLease { .. } => "settle_lease",
        Op::CloseLease { .. } => "close_lease",
        Op::OpenCase { .. } => "open_case",
        Op::CloseCase { .. } => "close_case",
        Op::ReportBreach { .. } => "report_breach",
        Op::ReleaseRow { .. } => "release_row",
        Op::RegisterIndexer { .. } => "register_indexer",
        Op::UpdateIndexer { .. } => "update_indexer",
        Op::LeaveIndexer { .. } => "leave_indexer",
    }
}

/// What is meant to add up when it is done again: more money in, more asked back, the next growth, the next part of a tally or of a
/// long lease, time counted anew.
pub fn adds(op: &Op) -> bool {
    matches!(
        op,
        Op::FundRewards { .. }
            | Op::Stake { .. }
            | Op::RequestUnstake { .. }
            | Op::GrowBlock { .. }
            | Op::RegisterTickets { .. }
            | Op::TopUpLease { .. }
            | Op::TallyBlock { .. }
            | Op::SettleLease { .. }
            // Replaces what is pending, or extends a pause, from now on.
            | Op::Propose { .. }
            | Op::UpdateClass { .. }
            | Op::Pause { .. }
            | Op::AnnounceMaintenance { .. }
            | Op::CommitReport { .. }
            // The breaker lets more through as hours pass.
            | Op::Withdraw { .. }
            | Op::WithdrawTreasury
            | Op::ClaimSeatPay { .. }
            // Armed again.
            | Op::Draw { .. }
    )
}

/// What of [`permissionless`] is done until nothing of it is due, so that only lasting differences remain.
pub fn settles(op: &Op) -> bool {
    let ends = matches!(op, Op::CloseAccount { .. } | Op::VacateRow { .. } | Op::OpenCase { .. });
    !ends && !stops(op) && !matches!(op, Op::ReleaseRow { .. })
}

/// What sends a row back, or takes what it owns.
fn stops(op: &Op) -> bool {
    matches!(op, Op::CancelLease { .. } | Op::ReportBreach { .. } | Op::CloseCase { .. })
}

/// Pairs of which the order is meant to matter: a slash that the stake does not cover takes what the row has accrued by then, and
/// needs fifteen tickets, which move; of a breach nobody is paid while a case is pending, and it is not reported of a container that
/// is gone.
pub fn is_ordered(one: &Op, other: &Op) -> bool {
    let breach = |op: &Op| matches!(op, Op::ReportBreach { .. });
    let after = |op: &Op| matches!(op, Op::CloseCase { .. } | Op::ReleaseRow { .. } | Op::VacateRow { .. });
    let pair = |one: &Op, other: &Op| {
        matches!(one, Op::Churn) && stops(other)
            || matches!(one, Op::TallyBlock { .. }) && matches!(other, Op::CloseCase { .. } | Op::ReportBreach { .. })
            || breach(one) && (after(other) || breach(other))
    };
    pair(one, other) || pair(other, one)
}

/// Reveals of every seat that committed for an epoch.
pub fn reveals(run: &Run, epoch: u32) -> Vec<Op> {
    let mut all = vec![];
    for (block, place) in run.model.blocks.iter().enumerate() {
        let Some(lane) = place.lane(epoch) else { continue };
        for (number, seat) in lane.seats.iter().enumerate() {
            if let Some((seat, report)) = seat.as_ref().and_then(|s| Some((s, s.committed.clone()?)))
                && let (Some(by), false) = (seat.operator, seat.revealed)
            {
                all.push(Op::RevealReport { by, block: block as u32, epoch, seat: number as u8, report });
            }
        }
    }
    all
}

/// Commits of every seat of an epoch, by a profile.
pub fn commits(run: &Run, epoch: u32, profile: u8, row: u8) -> Vec<Op> {
    let mut all = vec![];
    for (block, place) in run.model.blocks.iter().enumerate() {
        let block = block as u32;
        let Some(lane) = place.lane(epoch) else { continue };
        let occupied: Vec<u8> = place.rows.keys().copied().collect();
        let leased = |r: &&u8| place.rows[*r].cap(epoch).is_some();
        let leased: Vec<u8> = occupied.iter().filter(leased).copied().collect();
        let row =
            one(if row.is_multiple_of(2) { &occupied } else { &leased }, row).or_else(|| one(&occupied, row)).unwrap_or(0);
        for (number, seat) in lane.seats.iter().enumerate() {
            let Some(seat) = seat else { continue };
            let Some(checker) = run.model.checkers.get(&seat.checker) else { continue };
            let by = seat.operator.unwrap_or(checker.keys.operator);
            if let Some(report) = run::report(epoch, block, number as u8, profile, row) {
                let named = seat.operator.is_none().then_some(seat.checker);
                all.push(Op::CommitReport { by, block, epoch, seat: number as u8, named, report: Box::new(report) });
            }
        }
    }
    all
}

/// What anybody may do at this moment and would be done, with no keeper named. Without: advance, draw and what was proposed, which
/// are boundaries (what happened before them counts differently by intent); withdrawals, where a tight breaker serves first come
/// first.
pub fn permissionless(run: &Run) -> Vec<Op> {
    let m = &run.model;
    let mut all = vec![Op::Churn, Op::SweepVault { kind: 0 }, Op::SweepVault { kind: 2 }];
    let epoch = m.epoch_at(m.now).unwrap_or(0);
    for block in 0..m.blocks.len() as u32 {
        all.push(Op::SeatBlock { epoch, block });
        all.push(Op::TallyBlock { epoch: epoch.saturating_sub(1), block, rows: 256, keeper: None });
    }
    all.extend(m.classes.keys().map(|id| Op::ApplyClass { id: *id }));
    for (id, lease) in &m.leases {
        all.push(Op::SettleLease { lease: *id });
        all.push(Op::CloseAccount { by: m.payer, target: Target::Lease(*id) });
        all.push(Op::CancelLease { lease: *id });
        all.extend((1..12).map(|back| Op::ReportBreach { lease: *id, epoch: epoch.saturating_sub(back) }));
        if lease.started != 0 && m.now >= lease.end() {
            all.push(Op::CloseLease { by: m.payer, lease: *id, not_served: false });
        }
    }
    for (id, container) in &m.containers {
        all.push(Op::VacateRow { container: *id });
        let row = &m.blocks[container.block as usize].rows[&container.row];
        if let Some(accused) = row.accused {
            all.push(Op::OpenCase { container: *id, epoch: accused.since });
            all.push(Op::CloseCase { container: *id, epoch: accused.since, keeper: None });
            all.push(Op::ReleaseRow { container: *id, epoch: accused.since });
        }
    }
    all.extend(m.epochs.keys().map(|e| Op::CloseAccount { by: m.payer, target: Target::Epoch(*e) }));
    if m.parameters.breaker_limits.iter().all(|l| *l == 1 << 56) {
        for kind in 0..3 {
            all.extend(m.providers.keys().map(|id| Op::Withdraw { source: Source::Provider(*id), kind }));
            all.extend(m.indexers.keys().map(|id| Op::Withdraw { source: Source::Indexer(*id), kind }));
            all.extend(m.leases.keys().map(|id| Op::Withdraw { source: Source::Lease(*id), kind }));
            all.extend(m.keepers.keys().map(|id| Op::Withdraw { source: Source::Keeper(*id), kind }));
        }
        for (slot, ticket) in m.tickets.slots.iter().enumerate() {
            all.push(Op::ClaimSeatPay { checker: ticket.checker, slots: vec![slot as u32] });
        }
    }
    all.retain(|op| run.would(op));
    all
}

fn one<T: Clone>(all: &[T], n: u8) -> Option<T> {
    (!all.is_empty()).then(|| all[usize::from(n) % all.len()].clone())
}

/// Numbers drawn, against a state.
pub struct Draw<'a> {
    pub run: &'a mut Run,
    pub by: u8,
    pub a: u8,
    pub b: u8,
    pub c: u8,
}

impl Draw<'_> {
    fn model(&self) -> &Model {
        &self.run.model
    }

    fn person(&self, n: u8) -> Pubkey {
        self.run.people.pick(n)
    }

    /// The right signer, or somebody.
    fn signer(&self, right: Pubkey) -> Pubkey {
        if self.by < 232 { right } else { self.person(self.by) }
    }

    fn provider(&self) -> Option<(u32, Pubkey)> {
        let all: Vec<_> = self.model().providers.iter().map(|(id, p)| (*id, p.keys.owner)).collect();
        one(&all, self.a)
    }

    fn checker(&self) -> Option<(u32, Pubkey)> {
        let all: Vec<_> = self.model().checkers.iter().map(|(id, c)| (*id, c.keys.owner)).collect();
        one(&all, self.a)
    }

    fn indexer(&self) -> Option<(u32, Pubkey)> {
        let all: Vec<_> = self.model().indexers.iter().map(|(id, i)| (*id, i.keys.owner)).collect();
        one(&all, self.a)
    }

    fn container(&self) -> Option<ContainerId> {
        one(&self.model().containers.keys().copied().collect::<Vec<_>>(), self.a)
    }

    /// A container for which something holds; one time in eight any.
    fn container_that(&self, holds: impl Fn(&ContainerId) -> bool) -> Option<ContainerId> {
        let fit: Vec<_> = self.model().containers.keys().copied().filter(holds).collect();
        if self.by % 8 == 7 { self.container() } else { one(&fit, self.a).or_else(|| self.container()) }
    }

    /// A lease in one of some states; one time in eight any.
    fn lease(&self, states: &[LeaseState]) -> Option<LeaseId> {
        let all: Vec<_> = self.model().leases.keys().copied().collect();
        let fit: Vec<_> = all.iter().copied().filter(|id| states.contains(&self.model().leases[id].state)).collect();
        if self.by % 8 == 7 { one(&all, self.a) } else { one(&fit, self.a).or_else(|| one(&all, self.a)) }
    }

    fn host_of(&self, lease: LeaseId) -> Pubkey {
        let container = self.model().leases[&lease].container;
        self.model().containers.get(&container).map_or(lease.0, |c| c.operator)
    }

    fn party(&self) -> Option<(Party, Pubkey, Pubkey)> {
        let m = self.model();
        let all: Vec<_> = m
            .providers
            .iter()
            .map(|(id, p)| (Party::Provider(*id), p.keys))
            .chain(m.checkers.iter().map(|(id, c)| (Party::Checker(*id), c.keys)))
            .chain(m.indexers.iter().map(|(id, i)| (Party::Indexer(*id), i.keys)))
            .collect();
        one(&all, self.a).map(|(party, keys)| (party, keys.owner, keys.pending))
    }

    fn keeper(&self) -> Option<Pubkey> {
        if self.c.is_multiple_of(4) { None } else { one(&self.model().keepers.keys().copied().collect::<Vec<_>>(), self.c) }
    }

    /// Some tickets in a state of a checker, or one of anybody's.
    fn slots(&self, checker: u32, states: &[TicketState]) -> Vec<u32> {
        let slots = self.model().tickets.slots.iter().enumerate();
        let own = slots.filter(|(_, t)| t.checker == checker && states.contains(&t.state)).map(|(s, _)| s as u32);
        let mut own: Vec<u32> = own.skip(usize::from(self.b % 2)).take(1 + usize::from(self.c % 3)).collect();
        if self.by % 16 == 15 {
            own.push(u32::from(self.c % 40));
        }
        own
    }

    /// A block; now and then one that is not there.
    fn block(&self, n: u8) -> u32 {
        let there = self.model().blocks.len() as u8;
        u32::from(if self.by % 32 == 31 { n % 4 } else { n % there.max(1) })
    }

    /// An epoch near the clock's.
    fn near(&self, back: u8) -> u32 {
        let now = self.model().epoch_at(self.model().now).unwrap_or(0);
        now.saturating_sub(u32::from(back))
    }

    fn proposal(&self) -> Proposal {
        let m = self.model();
        let (a, b) = (self.a, u64::from(self.b));
        let mut parameters = m.parameters;
        let mut vesting = VestingTerms::default();
        let mut emission = m.emission;
        let (mut treasury, mut guardian) = (m.treasury, m.guardian);
        let mut epoch_length = m.grids.last().map_or(60, |g| g.length as u32);
        match a % 16 {
            0 | 7 => epoch_length = 100 - epoch_length,
            1 => parameters.breaker_limits = [[1 << 56; 3], [(b + 1) * ATH; 3]][usize::from(self.c % 2)],
            2 => vesting = other_terms(self.b),
            4 => guardian = self.person(self.b),
            5 => treasury = if self.c.is_multiple_of(2) { People::other_treasury(&self.run.world.mint) } else { treasury },
            6 => parameters.keeper_fee = b * ATH / 32,
            3 => parameters.ticket_price = (1 + b) * ATH,
            8 => (parameters.max_rate.hi, parameters.max_rate.lo) = (0, u64::MAX / (1 + b)),
            9 => parameters.max_seat_pay = b * ATH,
            10 => (emission.amount, emission.decay_every, emission.next_decay) = (b * 10 * ATH, u32::from(self.c % 5), 0),
            11 => {
                (parameters.lease_fee_bps, parameters.indexer_share_bps) = (u16::from(self.b) * 39, u16::from(self.c) * 39)
            }
            12 => parameters.tokens_required = self.b % 2,
            13 => (parameters.availability_threshold, parameters.tolerance) = (60 + self.b % 40, self.c % 20),
            14 => parameters.treasury_share_bps += u16::from(self.b % 4),
            _ => (parameters.unbonding, parameters.time_lock) = (700 + u32::from(self.b), u32::from(self.c)),
        }
        Proposal { parameters, emission, vesting, treasury, guardian, epoch_length, reserved: 0 }
    }

    /// What the numbers mean now; `None` where there is nothing that they could be about.
    #[allow(clippy::too_many_lines)]
    pub fn resolve(self, what: &str) -> Option<Op> {
        let (a, b, c) = (self.a, self.b, self.c);
        let m = self.model();
        let authority = self.signer(m.authority);
        let person = self.person(self.by);
        Some(match what {
            "initialize_network" => Op::InitializeNetwork { by: m.authority },
            "create_class" | "update_class" => {
                let weight = 1 + u16::from(b);
                let terms = ClassTerms {
                    stake_base: (1 + u64::from(c)) * ATH,
                    minimum_vram: 1,
                    reference_throughput: u64::from(weight) * 1_000 + u64::from(c % 3),
                    unit_weight: weight,
                    active: u8::from(c % 8 != 0),
                    reserved: [0; 5],
                };
                if what == "create_class" {
                    Op::CreateClass { by: authority, id: u16::from(a % 6), terms }
                } else {
                    Op::UpdateClass { by: authority, id: u16::from(a % 3), terms }
                }
            }
            "apply_class" => Op::ApplyClass { id: u16::from(a % 4) },
            "fund_rewards" => Op::FundRewards { by: person, amount: u64::from(a) * 100 * ATH + u64::from(b) },
            "propose" => Op::Propose { by: authority, proposal: Box::new(self.proposal()) },
            "apply_proposal" => Op::ApplyProposal,
            "cancel_proposal" => Op::CancelProposal { by: authority },
            "propose_authority" => Op::ProposeAuthority { by: authority, next: self.person(b) },
            "accept_authority" => {
                let named = m.pending_authority != Pubkey::default();
                Op::AcceptAuthority { by: self.signer(if named { m.pending_authority } else { person }) }
            }
            "pause" => Op::Pause { by: self.signer(if a % 2 == 0 { m.authority } else { m.guardian }) },
            "unpause" => Op::Unpause { by: authority },
            "sweep_vault" => Op::SweepVault { kind: usize::from(a % 3) },
            "withdraw_treasury" => Op::WithdrawTreasury,
            "register_provider" => {
                Op::RegisterProvider { by: person, id: m.ids[0], operator: self.person(b), payout: self.person(c) }
            }
            "stake" => {
                let (provider, owner) = self.provider()?;
                Op::Stake { by: self.signer(owner), provider, amount: u64::from(b) * ATH + u64::from(c) }
            }
            "request_unstake" => {
                let (provider, owner) = self.provider()?;
                let amount = if b % 4 == 0 {
                    // All that is free, so that a provider can end.
                    let p = &m.providers[&provider];
                    (p.staked - m.locked(provider) - p.unbonding()) as u64
                } else {
                    u64::from(b) * ATH / 4 + u64::from(c)
                };
                Op::RequestUnstake { by: self.signer(owner), provider, amount }
            }
            "restore_stake" => {
                let container = self.container_that(|id| m.containers[id].halted != 0)?;
                Op::RestoreStake { by: self.signer(m.providers[&container.0].keys.owner), container }
            }
            "create_block" => Op::CreateBlock { by: person, block: m.blocks.len() as u32 },
            "grow_block" => Op::GrowBlock { by: person, block: self.block(a) },
            "register_container" => {
                let (provider, owner) = self.provider()?;
                let by = self.signer(owner);
                let n = if c % 8 == 0 { 1 + u32::from(c / 8) } else { self.run.given + 1 };
                let operator = self.person(b);
                self.run.given = self.run.given.max(n);
                let price = (u64::from(c) * ATH).wrapping_mul(u64::from(b % 3)) / 2 + u64::from(b);
                let class = u16::from(b % 3);
                Op::RegisterContainer {
                    by,
                    id: (provider, n),
                    class,
                    block: u32::from(a / 250),
                    gpus: b % 4,
                    operator,
                    price,
                }
            }
            "update_container" => {
                let container = self.container()?;
                let keys = &m.providers[&container.0].keys;
                let by = self.signer(if c % 2 == 0 { keys.operator } else { keys.owner });
                let (price, minimum) = (u64::from(b) * ATH / 3 + u64::from(c), 598 + u32::from(c % 100));
                Op::UpdateContainer { by, container, price, minimum, accepting: u8::from(c % 8 != 1) }
            }
            "rotate_container_operator" => {
                let container = self.container()?;
                let by = self.signer(m.providers[&container.0].keys.owner);
                Op::RotateContainerOperator { by, container, operator: self.person(b) }
            }
            "announce_maintenance" => {
                let container = self.container()?;
                let start = m.now + 86_400 + i64::from(b) * 60 - i64::from(c % 16 == 0);
                let by = self.signer(m.providers[&container.0].keys.operator);
                Op::AnnounceMaintenance { by, container, start, end: start + i64::from(c) * 120 }
            }
            "deregister_container" => {
                let container = self.container()?;
                Op::DeregisterContainer { by: self.signer(m.providers[&container.0].keys.owner), container }
            }
            "vacate_row" => {
                let leaving = |id: &ContainerId| m.row_of(id).until.is_some();
                Op::VacateRow { container: self.container_that(leaving)? }
            }
            "register_checker" => Op::RegisterChecker {
                by: person,
                id: m.ids[1],
                operator: self.person(b),
                payout: self.person(c),
                commission: u16::from(a) * 41,
            },
            "register_tickets" => {
                let (checker, owner) = self.checker()?;
                Op::RegisterTickets { by: self.signer(owner), checker, count: u16::from(b % 4) }
            }
            "leave_tickets" => {
                let (checker, owner) = self.checker()?;
                let slots = self.slots(checker, &[TicketState::Live, TicketState::Waiting]);
                Op::LeaveTickets { by: self.signer(owner), checker, slots }
            }
            "withdraw_tickets" => {
                let (checker, _) = self.checker()?;
                let mut slots = self.slots(checker, &[TicketState::Removed, TicketState::Retired]);
                let out = m
                    .tickets
                    .slots
                    .iter()
                    .enumerate()
                    .filter(|(_, t)| matches!(t.state, TicketState::Removed | TicketState::Retired) && t.accrued == 0);
                let out: Vec<_> = out.map(|(s, t)| (t.checker, s as u32)).collect();
                let mut checker = checker;
                if let (true, Some((owner, slot))) = (slots.is_empty(), one(&out, c)) {
                    (checker, slots) = (owner, vec![slot]);
                }
                Op::WithdrawTickets { checker, slots }
            }
            "commit_report" => {
                let epoch = self.near(u8::from(c % 16 == 0));
                let all = commits(self.run, epoch, b, c);
                let Op::CommitReport { by, block, epoch, seat, named, report } = one(&all, a)? else { return None };
                let named = if c % 16 == 1 { Some(u32::from(b % 4)) } else { named };
                Op::CommitReport { by: self.signer(by), block, epoch, seat, named, report }
            }
            "reveal_report" => {
                let all = [reveals(self.run, self.near(1)), reveals(self.run, self.near(0))].concat();
                let Op::RevealReport { by, block, epoch, seat, mut report } = one(&all, a)? else { return None };
                if b % 16 == 0 {
                    report.salt[0] ^= 1;
                }
                Op::RevealReport { by: self.signer(by), block, epoch, seat, report }
            }
            "advance_epoch" => {
                let off = u32::from(b % 16 == 1);
                Op::AdvanceEpoch { number: self.near(u8::from(b % 16 == 0)) + off, keeper: self.keeper() }
            }
            "churn" => Op::Churn,
            "draw" => Op::Draw { keeper: self.keeper() },
            "seat_block" => Op::SeatBlock { epoch: self.near(u8::from(b % 16 == 0)), block: self.block(a) },
            "tally_block" => {
                let rows = [256, 256, 3, 1, 100, 0][usize::from(a % 6)];
                let epoch = self.near(if b % 16 == 0 { b / 16 } else { 1 });
                Op::TallyBlock { epoch, block: self.block(c), rows, keeper: self.keeper() }
            }
            "register_keeper" => Op::RegisterKeeper { wallet: person },
            "claim_rewards" => {
                let (provider, _) = self.provider()?;
                let keys = &m.providers[&provider].keys;
                let by = self.signer(if b % 2 == 0 { keys.operator } else { keys.owner });
                let block = self.block(c);
                let own = m.containers.iter().filter(|((p, _), c)| *p == provider && c.block == block);
                let rows = own.map(|(_, c)| c.row);
                let mut rows: Vec<u8> = rows.skip(usize::from(b % 2)).collect();
                if c % 16 == 0 {
                    rows.push(c / 16);
                }
                Op::ClaimRewards { by, provider, block, rows }
            }
            "claim_seat_pay" => {
                let all: Vec<_> = m.tickets.slots.iter().enumerate().filter(|(_, t)| t.accrued > 0).collect();
                let mut checker = one(&all, a).map_or(u32::from(a % 4), |(_, t)| t.checker);
                if self.by % 16 == 14 {
                    checker = u32::from(b % 5);
                }
                let own = all.iter().filter(|(_, t)| t.checker == checker || self.by % 16 == 15);
                let slots: Vec<u32> = own.map(|(s, _)| *s as u32).take(1 + usize::from(c % 4)).collect();
                Op::ClaimSeatPay { checker, slots }
            }
            "withdraw" => {
                let mut all: Vec<Source> = m.providers.keys().map(|id| Source::Provider(*id)).collect();
                all.extend(m.indexers.keys().map(|id| Source::Indexer(*id)));
                all.extend(m.leases.keys().map(|id| Source::Lease(*id)));
                all.extend(m.keepers.keys().map(|id| Source::Keeper(*id)));
                let fit = all.iter().flat_map(|source| (0..3).map(|kind| Op::Withdraw { source: *source, kind }));
                let fit: Vec<Op> = fit.filter(|op| self.run.would(op)).collect();
                match one(&fit, a) {
                    Some(op) if b % 8 != 0 => op,
                    _ => Op::Withdraw { source: one(&all, a)?, kind: usize::from(c % 3) },
                }
            }
            "close_account" => {
                let mut all: Vec<(Target, Pubkey)> =
                    m.providers.iter().map(|(id, p)| (Target::Provider(*id), p.keys.owner)).collect();
                all.extend(m.checkers.iter().map(|(id, c)| (Target::Checker(*id), c.keys.owner)));
                all.extend(m.indexers.iter().map(|(id, i)| (Target::Indexer(*id), i.keys.owner)));
                all.extend(m.keepers.keys().map(|w| (Target::Keeper(*w), *w)));
                all.extend(m.leases.keys().map(|id| (Target::Lease(*id), id.0)));
                all.extend(m.cases.keys().map(|id| (Target::Case(*id), m.payer)));
                all.extend(m.epochs.keys().map(|e| (Target::Epoch(*e), person)));
                let fit: Vec<_> = all
                    .iter()
                    .filter(|(target, by)| self.run.would(&Op::CloseAccount { by: *by, target: *target }))
                    .copied()
                    .collect();
                let (target, by) = if b % 4 == 0 { one(&all, a)? } else { one(&fit, a).or_else(|| one(&all, a))? };
                Op::CloseAccount { by: self.signer(by), target }
            }
            "rotate_keys" => {
                let (party, owner, _) = self.party()?;
                Op::RotateKeys { by: self.signer(owner), party, operator: self.person(b), payout: self.person(c) }
            }
            "propose_owner" => {
                let (party, owner, _) = self.party()?;
                Op::ProposeOwner { by: self.signer(owner), party, next: self.person(b) }
            }
            "accept_owner" => {
                let mut waiting = vec![];
                waiting.extend(m.providers.iter().map(|(id, p)| (Party::Provider(*id), p.keys.pending)));
                waiting.extend(m.checkers.iter().map(|(id, c)| (Party::Checker(*id), c.keys.pending)));
                waiting.extend(m.indexers.iter().map(|(id, i)| (Party::Indexer(*id), i.keys.pending)));
                waiting.retain(|(_, pending)| *pending != Pubkey::default());
                let (party, pending) = match one(&waiting, a) {
                    Some(named) => named,
                    None => self.party().map(|(party, owner, _)| (party, owner))?,
                };
                Op::AcceptOwner { by: self.signer(pending), party }
            }
            "open_lease" => {
                let container = self.container_that(|id| {
                    let row = m.row_of(id);
                    row.state == crate::model::RowState::Live && m.containers[id].lease.is_none()
                })?;
                self.run.given += 1;
                let nonce = u64::from(self.run.given);
                let m = self.model();
                let indexer = one(&m.indexers.iter().map(|(id, i)| (*id, i.keys.operator)).collect::<Vec<_>>(), b);
                let matched = indexer.filter(|_| b % 2 == 0).map(|(indexer, operator)| Matched {
                    indexer,
                    signed_by: if b % 32 == 0 { self.person(c) } else { operator },
                    expires: m.now + i64::from(a) * 15,
                });
                let price = m.containers[&container].price;
                Op::OpenLease {
                    by: self.person(c % 4),
                    container,
                    nonce: if c % 32 == 31 { nonce.saturating_sub(5) } else { nonce },
                    seconds: 590 + 10 * u32::from(c),
                    most: if b % 32 == 1 { price.saturating_sub(1) } else { price },
                    matched,
                }
            }
            "start_lease" => {
                let lease = self.lease(&[LeaseState::Open])?;
                Op::StartLease { by: self.signer(self.host_of(lease)), lease }
            }
            "reject_lease" => {
                let lease = self.lease(&[LeaseState::Open])?;
                Op::RejectLease { by: self.signer(self.host_of(lease)), lease }
            }
            "cancel_lease" => Op::CancelLease { lease: self.lease(&[LeaseState::Open])? },
            "top_up_lease" => {
                let lease = self.lease(&[LeaseState::Started])?;
                Op::TopUpLease { by: self.signer(lease.0), lease, seconds: u32::from(b) * 7 }
            }
            "record_usage" => {
                let lease = self.lease(&[LeaseState::Started, LeaseState::Ended])?;
                let usage = m.leases[&lease].usage + u64::from(b);
                Op::RecordUsage { by: self.signer(self.host_of(lease)), lease, gpu_seconds: usage }
            }
            "settle_lease" => Op::SettleLease { lease: self.lease(&[LeaseState::Started, LeaseState::Ended])? },
            "close_lease" => {
                let lease = self.lease(&[LeaseState::Started])?;
                let right = if b % 3 == 0 { self.host_of(lease) } else { lease.0 };
                Op::CloseLease { by: self.signer(right), lease, not_served: c % 3 == 0 }
            }
            "open_case" | "close_case" | "release_row" => {
                let container = self.container_that(|id| m.row_of(id).accused.is_some())?;
                let since = m.row_of(&container).accused.map_or(u32::from(b), |a| a.since);
                match what {
                    "open_case" => Op::OpenCase { container, epoch: since },
                    "close_case" => Op::CloseCase { container, epoch: since, keeper: self.keeper() },
                    _ => Op::ReleaseRow { container, epoch: since },
                }
            }
            "report_breach" => {
                let all: Vec<Op> = m
                    .leases
                    .keys()
                    .flat_map(|lease| (1..12).map(|back| Op::ReportBreach { lease: *lease, epoch: self.near(back) }))
                    .collect();
                let fit: Vec<Op> = all.iter().filter(|op| self.run.would(op)).cloned().collect();
                one(&fit, a).or_else(|| one(&all, b))?
            }
            "register_indexer" => {
                Op::RegisterIndexer { by: person, id: m.ids[2], operator: self.person(b), payout: self.person(c) }
            }
            "update_indexer" => {
                let (indexer, owner) = self.indexer()?;
                let operator = m.indexers[&indexer].keys.operator;
                Op::UpdateIndexer { by: self.signer(if b % 2 == 0 { owner } else { operator }), indexer }
            }
            "leave_indexer" => {
                let (indexer, owner) = self.indexer()?;
                Op::LeaveIndexer { by: self.signer(owner), indexer }
            }
            other => panic!("{other} has no meaning"),
        })
    }
}

fn setup() -> impl Strategy<Value = Setup> {
    // Nine tickets are the fewest of which any may be retired, fifteen the fewest for stake to be taken.
    let checkers = prop_oneof![1 => 3u8..=8, 1 => 5u8..=6, 4 => 9u8..=11];
    let some = || prop::bool::weighted(0.25);
    (checkers, 1u8..=3, 1u8..=2, some(), some(), 1u16..2_000).prop_map(
        |(checkers, providers, blocks, tight, bounded, emission)| Setup {
            checkers,
            providers,
            blocks,
            tight,
            bounded,
            emission,
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let names = prop::strategy::Union::new_weighted(INSTRUCTIONS.iter().map(|(name, w)| (*w, Just(*name))).collect());
    let call = (names, any::<[u8; 4]>()).prop_map(|(what, [by, a, b, c])| Action::Call { what, by, a, b, c });
    // Mostly all is well. A row that is down for two epochs is a breach, one that is condemned has a case of eight epochs before
    // it, and tickets that are silent for twenty of theirs are retired.
    let epochs = prop_oneof![
        30 => (1u8..=2, Just(0u8)),
        12 => (1u8..=2, 0u8..16),
        6 => (2u8..=3, Just(4u8)),
        3 => (3u8..=11, prop_oneof![2 => Just(0u8), 1 => 7u8..=10]),
        1 => (36u8..=44, Just(1u8)),
    ];
    let epochs = (epochs, any::<u8>()).prop_map(|((count, profile), row)| Action::Epochs { count, profile, row });
    prop_oneof![
        200 => call,
        22 => (0u8..WAITS.len() as u8 - 4).prop_map(Action::Wait),
        4 => (0u8..WAITS.len() as u8).prop_map(Action::Wait),
        1 => Just(Action::Slots),
        12 => Just(Action::Again),
        20 => epochs,
        10 => any::<[u8; 2]>().prop_map(|[a, b]| Action::BothOrders { a, b }),
    ]
}

/// A case: how it begins, and what is done then.
pub fn case() -> impl Strategy<Value = (Setup, Vec<Action>)> {
    (setup(), prop::collection::vec(action(), 30..=260))
}
