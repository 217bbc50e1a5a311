//! Operations as instructions, built by the builders that all tests use.

use datagalax::{
    instructions::{CreateClassArgs, OpenLeaseArgs, UpdateContainerArgs},
    state::VestingTerms,
};
use datagalax_program_tests::{
    Checker, Indexer, Provider, User, World,
    accounts::rows,
    actors::{class_args, container_args, fingerprint},
    addresses::{self, Vault},
    instructions::{self, Initialize},
    send::compute_budget,
    world::Key,
};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;

use crate::{
    model::{CaseId, ContainerId, LeaseId, Model, Op, Party, Source, Target},
    people::People,
};

/// Address of a container.
pub fn container(id: ContainerId) -> Pubkey {
    addresses::container(id.0, &fingerprint(id.1))
}

/// Address of a lease.
pub fn lease(id: LeaseId) -> Pubkey {
    addresses::lease(&id.0, id.1)
}

/// Address of a case.
pub fn case(id: CaseId) -> Pubkey {
    addresses::case(&container(id.0), id.1, if id.2 { 2 } else { 1 })
}

fn party(party: Party) -> Pubkey {
    match party {
        Party::Provider(id) => addresses::provider(id),
        Party::Checker(id) => addresses::checker(id),
        Party::Indexer(id) => addresses::indexer(id),
    }
}

/// Builds calls in a world.
pub struct Calls<'a> {
    pub world: &'a mut World,
    pub people: &'a People,
    pub model: &'a Model,
}

impl Calls<'_> {
    /// Stands in where a builder wants a key that does not matter or is replaced.
    fn nobody(&self) -> Key {
        self.people.all[0].clone()
    }

    fn provider(&self, id: u32, by: Pubkey) -> Provider {
        let payout = self.model.providers.get(&id).map_or(by, |p| p.keys.payout);
        let (owner, operator) = (self.nobody(), self.nobody());
        Provider { id, owner, operator, payout, from: self.people.purse(&by), to: self.people.purse(&payout) }
    }

    fn checker(&self, id: u32, by: Pubkey) -> Checker {
        let (payout, operator, commission_bps) =
            self.model.checkers.get(&id).map_or((by, by, 0), |c| (c.keys.payout, c.keys.operator, c.commission));
        // One wallet in both roles is named once.
        let commission_bps = if payout == operator { 0 } else { commission_bps };
        Checker {
            id,
            owner: self.nobody(),
            operator: self.nobody(),
            payout,
            commission_bps,
            from: self.people.purse(&by),
            to: self.people.purse(&payout),
            operator_account: self.people.purse(&operator),
        }
    }

    fn indexer(&self, id: u32, by: Pubkey) -> Indexer {
        Indexer {
            id,
            owner: self.nobody(),
            operator: self.nobody(),
            payout: by,
            from: self.people.purse(&by),
            to: self.people.purse(&by),
        }
    }

    /// The instructions of an operation; `None` when an account that a builder reads is not there.
    pub fn build(&mut self, op: &Op) -> Option<Vec<Instruction>> {
        let mut all = vec![compute_budget(1_400_000)[0].clone()];
        let (instruction, by) = self.call(op, &mut all)?;
        let mut instruction = instruction;
        if let Some(by) = by {
            instruction.accounts[0].pubkey = by;
        }
        all.push(instruction);
        Some(all)
    }

    fn there(&self, id: &ContainerId) -> Option<()> {
        self.model.containers.contains_key(id).then_some(())
    }

    fn lease_there(&self, id: &LeaseId) -> Option<()> {
        self.model.leases.contains_key(id).then_some(())
    }

    /// The instruction and who signs it as its first account; what goes before it is put into `before`.
    #[allow(clippy::too_many_lines)]
    fn call(&mut self, op: &Op, before: &mut Vec<Instruction>) -> Option<(Instruction, Option<Pubkey>)> {
        let nobody = self.people.all[0].clone();
        let payer = self.model.payer;
        let signed = |instruction: Instruction, by: &Pubkey| Some((instruction, Some(*by)));
        let open = |instruction: Instruction| Some((instruction, None));
        match op {
            Op::InitializeNetwork { by } => {
                let again = Initialize {
                    authority: *by,
                    program_data: addresses::program_data(),
                    mint: self.world.mint,
                    treasury: self.model.treasury,
                    token_program: self.world.token_program,
                    args: self.world.settings.arguments(*by, self.world.now()),
                };
                signed(again.instruction(), by)
            }
            Op::CreateClass { by, id, terms } => {
                let args = CreateClassArgs { terms: *terms, ..class_args(*id, 1) };
                signed(instructions::create_class(self.world, args), by)
            }
            Op::UpdateClass { by, id, terms } => signed(instructions::update_class(self.world, *id, *terms), by),
            Op::ApplyClass { id } => open(instructions::apply_class(*id)),
            Op::FundRewards { by, amount } => {
                signed(instructions::fund_rewards(self.world, by, &self.people.purse(by), *amount), by)
            }
            Op::Propose { by, proposal } => signed(instructions::propose(self.world, **proposal), by),
            Op::ApplyProposal => {
                let treasury = self.model.pending.as_ref().map_or(self.model.treasury, |(_, p)| p.treasury);
                open(instructions::apply_proposal(&treasury))
            }
            Op::CancelProposal { by } => signed(instructions::cancel_proposal(self.world), by),
            Op::ProposeAuthority { by, next } => signed(instructions::propose_authority(self.world, next), by),
            Op::AcceptAuthority { by } => signed(instructions::accept_authority(by), by),
            Op::Pause { by } => signed(instructions::pause(by), by),
            Op::Unpause { by } => signed(instructions::unpause(self.world), by),
            Op::SweepVault { kind } => open(instructions::sweep_vault(self.world, Vault::ALL[*kind])),
            Op::WithdrawTreasury => open(instructions::withdraw_treasury(self.world)),
            Op::RegisterProvider { by, id, operator, payout } => {
                signed(instructions::register_provider(by, *id, operator, payout), by)
            }
            Op::Stake { by, provider, amount } => {
                signed(instructions::stake(self.world, &self.provider(*provider, *by), *amount), by)
            }
            Op::RequestUnstake { by, provider, amount } => {
                signed(instructions::request_unstake(&self.provider(*provider, *by), *amount), by)
            }
            Op::RestoreStake { by, container } => {
                self.there(container)?;
                let provider = self.provider(container.0, *by);
                signed(instructions::restore_stake(self.world, &provider, &fingerprint(container.1)), by)
            }
            Op::CreateBlock { by, block } => signed(instructions::create_block(by, *block), by),
            Op::GrowBlock { by, block } => signed(instructions::grow_block(by, *block), by),
            Op::RegisterContainer { by, id, class, block, gpus, operator, price } => {
                self.world.try_account(&addresses::block(*block))?;
                let mut args = container_args(fingerprint(id.1), *gpus);
                (args.operator, args.price_per_hour) = (*operator, *price);
                signed(instructions::register_container(self.world, &self.provider(id.0, *by), *class, *block, args), by)
            }
            Op::UpdateContainer { by, container, price, minimum, accepting } => {
                let args = UpdateContainerArgs {
                    spec_hash: [7; 32],
                    price_per_hour: *price,
                    minimum_lease: *minimum,
                    accepting: *accepting,
                    endpoint: "https://moved.example".into(),
                };
                signed(instructions::update_container(&self.provider(container.0, *by), &fingerprint(container.1), args), by)
            }
            Op::RotateContainerOperator { by, container, operator } => {
                let provider = self.provider(container.0, *by);
                signed(instructions::rotate_container_operator(&provider, &fingerprint(container.1), operator), by)
            }
            Op::AnnounceMaintenance { by, container, start, end } => {
                let provider = self.provider(container.0, *by);
                signed(instructions::announce_maintenance(&provider, &fingerprint(container.1), *start, *end), by)
            }
            Op::DeregisterContainer { by, container } => {
                self.there(container)?;
                let provider = self.provider(container.0, *by);
                signed(instructions::deregister_container(self.world, &provider, &fingerprint(container.1)), by)
            }
            Op::VacateRow { container } => {
                self.there(container)?;
                open(instructions::vacate_row(self.world, container.0, &fingerprint(container.1)))
            }
            Op::RegisterChecker { by, id, operator, payout, commission } => {
                signed(instructions::register_checker(by, *id, operator, payout, *commission), by)
            }
            Op::RegisterTickets { by, checker, count } => {
                signed(instructions::register_tickets(self.world, &self.checker(*checker, *by), *count), by)
            }
            Op::LeaveTickets { by, checker, slots } => {
                signed(instructions::leave_tickets(&self.checker(*checker, *by), slots), by)
            }
            Op::WithdrawTickets { checker, slots } => {
                open(instructions::withdraw_tickets(self.world, &self.checker(*checker, payer), slots))
            }
            Op::CommitReport { by, block, epoch, seat, named, report } => {
                let lane = self.model.blocks.get(*block as usize).and_then(|b| b.lane(*epoch));
                let filled = lane.and_then(|l| l.seats.get(usize::from(*seat))).and_then(Option::as_ref);
                let checker = filled.map_or(0, |s| s.checker);
                let commitment = report.commitment(*epoch, *block, *seat, checker);
                signed(instructions::commit_report(by, *block, *named, *epoch, *seat, commitment), by)
            }
            Op::RevealReport { by, block, epoch, seat, report } => signed(
                instructions::reveal_report(by, *block, *epoch, *seat, &report.salt, &report.evidence_root, &report.values),
                by,
            ),
            Op::AdvanceEpoch { number, keeper } => {
                self.world.keeper = *keeper;
                open(instructions::advance_epoch(self.world, &payer, *number))
            }
            Op::Churn => open(instructions::churn(self.model.current.unwrap_or(u32::MAX))),
            Op::Draw { keeper } => {
                let mut instruction = instructions::draw(self.model.current.unwrap_or(u32::MAX));
                if let Some(wallet) = keeper {
                    let named = &mut instruction.accounts[4];
                    (named.pubkey, named.is_writable) = (addresses::keeper(wallet), true);
                }
                open(instruction)
            }
            Op::SeatBlock { epoch, block } => open(instructions::seat_block(*epoch, *block)),
            Op::TallyBlock { epoch, block, rows, keeper } => {
                self.world.keeper = *keeper;
                open(instructions::tally_block(self.world, *epoch, *block, *rows))
            }
            Op::RegisterKeeper { wallet } => open(instructions::register_keeper(&payer, wallet)),
            Op::ClaimRewards { by, provider, block, rows: named } => {
                let mask = rows(named.iter().map(|r| usize::from(*r)));
                signed(instructions::claim_rewards(&self.provider(*provider, *by), *block, &mask), by)
            }
            Op::ClaimSeatPay { checker, slots } => {
                open(instructions::claim_seat_pay(self.world, &self.checker(*checker, payer), slots))
            }
            Op::Withdraw { source, kind } => {
                let (address, to) = match source {
                    Source::Provider(id) => (addresses::provider(*id), self.model.providers.get(id)?.keys.payout),
                    Source::Indexer(id) => (addresses::indexer(*id), self.model.indexers.get(id)?.keys.payout),
                    Source::Lease(id) => (lease(*id), id.0),
                    Source::Keeper(wallet) => (addresses::keeper(wallet), *wallet),
                };
                open(instructions::withdraw(self.world, &address, Vault::ALL[*kind], &self.people.purse(&to)))
            }
            Op::CloseAccount { by, target } => {
                let (address, recipient) = match target {
                    Target::Provider(id) => (addresses::provider(*id), self.model.providers.get(id)?.keys.rent_payer),
                    Target::Checker(id) => (addresses::checker(*id), self.model.checkers.get(id)?.keys.rent_payer),
                    Target::Indexer(id) => (addresses::indexer(*id), self.model.indexers.get(id)?.keys.rent_payer),
                    Target::Keeper(wallet) => (addresses::keeper(wallet), payer),
                    Target::Lease(id) => (lease(*id), id.0),
                    Target::Case(id) => (case(*id), payer),
                    Target::Epoch(number) => (addresses::epoch(*number), payer),
                };
                signed(instructions::close_account(by, &address, &recipient), by)
            }
            Op::RotateKeys { by, party: whose, operator, payout } => {
                signed(instructions::rotate_keys(by, &party(*whose), operator, payout), by)
            }
            Op::ProposeOwner { by, party: whose, next } => signed(instructions::propose_owner(by, &party(*whose), next), by),
            Op::AcceptOwner { by, party: whose } => signed(instructions::accept_owner(by, &party(*whose)), by),
            Op::OpenLease { by, container: id, nonce, seconds, most, matched } => {
                self.there(id)?;
                let user = User { key: nobody, from: self.people.purse(by) };
                let expires = matched.map_or(0, |m| m.expires);
                if let Some(matched) = matched {
                    let key = self.people.key(&matched.signed_by)?;
                    before.push(instructions::sign_match(&key, matched.indexer, by, &container(*id), *nonce, expires));
                }
                let args = OpenLeaseArgs {
                    nonce: *nonce,
                    seconds: *seconds,
                    max_price_per_hour: *most,
                    workload_hash: [3; 32],
                    match_expires: expires,
                };
                let named = matched.map(|m| m.indexer);
                let mut instruction = instructions::open_lease(self.world, &user, &container(*id), named, args);
                instruction.accounts[4].pubkey = lease((*by, *nonce));
                signed(instruction, by)
            }
            Op::StartLease { by, lease: id } => {
                self.lease_there(id)?;
                signed(instructions::start_lease(self.world, by, &lease(*id)), by)
            }
            Op::RejectLease { by, lease: id } => {
                self.lease_there(id)?;
                signed(instructions::reject_lease(self.world, by, &lease(*id), 7), by)
            }
            Op::CancelLease { lease: id } => {
                self.lease_there(id)?;
                open(instructions::cancel_lease(self.world, &lease(*id)))
            }
            Op::TopUpLease { by, lease: id, seconds } => {
                self.lease_there(id)?;
                let user = User { key: nobody, from: self.people.purse(by) };
                signed(instructions::top_up_lease(self.world, &user, &lease(*id), *seconds), by)
            }
            Op::RecordUsage { by, lease: id, gpu_seconds } => {
                self.lease_there(id)?;
                signed(instructions::record_usage(self.world, by, &lease(*id), *gpu_seconds, *gpu_seconds, *gpu_seconds), by)
            }
            Op::SettleLease { lease: id } => {
                self.lease_there(id)?;
                open(instructions::settle_lease(self.world, &lease(*id)))
            }
            Op::CloseLease { by, lease: id, not_served } => {
                self.lease_there(id)?;
                signed(instructions::close_lease(self.world, by, &lease(*id), *not_served, 5), by)
            }
            Op::OpenCase { container: id, epoch } => {
                self.there(id)?;
                open(instructions::open_case(self.world, &payer, &container(*id), *epoch))
            }
            Op::CloseCase { container: id, epoch, keeper } => {
                self.there(id)?;
                self.world.keeper = *keeper;
                open(instructions::close_case(self.world, &container(*id), *epoch))
            }
            Op::ReportBreach { lease: id, epoch } => {
                self.lease_there(id)?;
                self.there(&self.model.leases[id].container)?;
                open(instructions::report_breach(self.world, &payer, &lease(*id), *epoch))
            }
            Op::ReleaseRow { container: id, epoch } => {
                self.there(id)?;
                open(instructions::release_row(self.world, &container(*id), *epoch))
            }
            Op::RegisterIndexer { by, id, operator, payout } => {
                let mut indexer = self.indexer(*id, *by);
                indexer.payout = *payout;
                indexer.operator = self.people.key(operator)?;
                signed(instructions::register_indexer(self.world, &indexer, "https://indexer.example"), by)
            }
            Op::UpdateIndexer { by, indexer } => {
                signed(instructions::update_indexer(&self.indexer(*indexer, *by), "https://moved.example"), by)
            }
            Op::LeaveIndexer { by, indexer } => signed(instructions::leave_indexer(&self.indexer(*indexer, *by)), by),
        }
    }
}

/// Vesting terms other than those the network starts with.
pub fn other_terms(a: u8) -> VestingTerms {
    let immediate = u16::from(a) * 10;
    VestingTerms {
        immediate_bps: immediate,
        short_bps: 4_000,
        short_days: 1 + u16::from(a % 100),
        long_bps: 6_000 - immediate,
        long_days: 1 + u16::from(a % 180),
        ..VestingTerms::default()
    }
}
