//! What a keeper of a real cluster remembers between rounds, so that it reads little: heads of blocks, rows that were found frozen
//! or left, leases, other keepers. Everything here is bounded, and everything is read anew now and then.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem::offset_of,
    time::Duration,
};

use datagalax::{
    constants::ROWS,
    state::{Block, Case, Epoch, Keeper, Lease, Network, Row},
};
use datagalax_client::{Address, ReadError, Reader, accounts::DISCRIMINATOR_LEN, addresses, token};
use tokio::time::Instant;

use crate::{
    decide::{Chores, Rented, Watched, rows_of_interest},
    heads::{BlockHead, read_accused, read_heads, read_lanes},
};

/// Heads read in one round: ten requests.
const HEADS: usize = 500;
/// Blocks of which one look reads the votes of two seats: two requests.
const VOTES: usize = 200;
/// Blocks of which one look reads all rows: 350 KB.
const ROWS_OF: usize = 8;
/// Frozen and left rows that are remembered at most; the others are found again when there is room.
const MOST_ROWS: usize = 4_096;
/// Of them, those that one look hands on; the next look takes the next ones.
const WATCHED: usize = 16;
/// Leases of a kind that one look hands on.
const LEASES: usize = 64;
/// Leases that one answer may hold before only a part of them is asked for at a time.
const LEASES_A_LOOK: usize = 2_000;
/// Accounts that this keeper pays the rent of, of each type, that one look hands on.
const RENTED: usize = 64;
/// Other keepers that are remembered.
const KEEPERS: usize = 64;
/// Epochs without a paid action after which a keeper is thought to be gone.
const QUIET: u32 = 2;
/// Shortest time between two looks at the chores, and between two readings of what is pending; on longer epochs it is a 64th of one,
/// up to the longest.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// Where the rows begin in a block's account.
const ROWS_AT: usize = DISCRIMINATOR_LEN + offset_of!(Block, rows);

/// The pause between two looks in epochs of this many seconds.
pub(super) fn look_every(length: u32) -> Duration {
    Duration::from_secs(u64::from(length / 64)).clamp(LOOK_EVERY.0, LOOK_EVERY.1)
}

/// What is remembered of every block.
#[derive(Default)]
pub(super) struct Heads {
    /// By index.
    pub heads: BTreeMap<u32, BlockHead>,
    /// The epoch for which they are read, and the block to read next for it.
    reading: Option<(u32, u32)>,
    /// When what is pending was read last.
    pending_read: Option<Instant>,
}

impl Heads {
    /// Reads some of what is missing: all heads once in an epoch, in parts, and then those lanes in which something is due. Whether
    /// there is more to read at once.
    pub async fn refresh(&mut self, reader: &Reader, network: &Network, epoch: u32, drawn: bool) -> Result<bool, ReadError> {
        let rpc = reader.rpc().as_ref();
        if self.reading.is_none_or(|(of, _)| of != epoch) {
            self.reading = Some((epoch, 0));
        }
        let Some((_, next)) = self.reading else { return Ok(false) };
        if next < network.blocks {
            let until = next.saturating_add(HEADS as u32).min(network.blocks);
            let part: Vec<u32> = (next..until).collect();
            for head in read_heads(rpc, &part).await? {
                self.heads.insert(head.index, head);
            }
            self.reading = Some((epoch, until));
            return Ok(until < network.blocks);
        }
        let every = look_every(network.grids[0].length) / 2;
        if self.pending_read.is_some_and(|at| at.elapsed() < every) {
            return Ok(false);
        }
        // Only whether it was somebody else who did it: what is sent is looked at again before.
        let seats: Vec<u32> = self.indices(HEADS, |head| drawn && head.wants_seats(epoch));
        self.reread(reader, epoch, &seats).await?;
        if let Some(before) = epoch.checked_sub(1) {
            let tallies = self.indices(HEADS, |head| head.wants_tally(before));
            self.reread(reader, before, &tallies).await?;
        }
        self.pending_read = Some(Instant::now());
        Ok(false)
    }

    fn indices(&self, most: usize, of: impl Fn(&BlockHead) -> bool) -> Vec<u32> {
        self.heads.values().filter(|head| of(head)).map(|head| head.index).take(most).collect()
    }

    /// Reads the lanes of an epoch's parity of these blocks anew.
    pub async fn reread(&mut self, reader: &Reader, epoch: u32, blocks: &[u32]) -> Result<(), ReadError> {
        if blocks.is_empty() {
            return Ok(());
        }
        for (index, lane) in blocks.iter().zip(read_lanes(reader.rpc().as_ref(), epoch, blocks).await?) {
            let Some(head) = self.heads.get_mut(index) else { continue };
            match lane {
                Some(lane) => {
                    if lane.tallied && !head.lanes[(epoch & 1) as usize].tallied && lane.epoch == epoch {
                        head.last_tallied = epoch;
                    }
                    head.lanes[(epoch & 1) as usize] = lane;
                }
                None => {
                    self.heads.remove(index);
                }
            }
        }
        Ok(())
    }
}

/// What is read seldom.
#[derive(Default)]
pub(super) struct Seldom {
    /// When it was read last.
    read: Option<Instant>,
    /// How many looks there were: each takes other rows and leases when there are too many.
    looks: usize,
    /// The epoch for which blocks were queued below.
    queued: Option<u32>,
    /// Blocks whose votes of the epoch before are looked at once they are tallied.
    votes: BTreeSet<u32>,
    /// Blocks in which somebody may be accused: their rows are read first.
    accused: BTreeSet<u32>,
    /// Blocks in which somebody may have left.
    left: BTreeSet<u32>,
    /// Frozen and left rows, with the container's address once it is known.
    rows: BTreeMap<(u32, u8), Option<Address>>,
    leases: Vec<Leases>,
    /// The epoch for which the accounts with this keeper's rent were looked for.
    rented: Option<u32>,
    others: HashMap<Address, Other>,
    /// Whether the other keepers were looked for.
    pub knows_others: bool,
    /// Whether its wallet has a token account for its pay, and whether it was said that it has none.
    pub has_home: bool,
    said_homeless: bool,
    /// This keeper's own account.
    pub keeper: Option<(Address, Box<Keeper>)>,
    pub chores: Chores,
}

/// Another keeper.
struct Other {
    actions: u64,
    /// The epoch in which it was first seen, or last seen to have done something.
    since: u32,
}

/// Which leases of a state are read.
struct Leases {
    status: u8,
    /// The first byte of the user's address, when they are too many to read all.
    part: Option<u8>,
}

impl Seldom {
    /// Wallets of the other keepers that are at work: what has done nothing that is paid for some epochs is thought to be gone.
    pub fn others(&self, epoch: u32) -> Vec<Address> {
        let at_work = |other: &Other| other.since.saturating_add(QUIET) >= epoch;
        self.others.iter().filter(|(_, other)| at_work(other)).map(|(wallet, _)| *wallet).collect()
    }

    /// Whether it is time for the next look.
    pub fn is_due(&self, network: &Network) -> bool {
        self.read.is_none_or(|at| at.elapsed() >= look_every(network.grids[0].length))
    }

    /// Notes that a look begins.
    pub fn begin(&mut self, epoch: u32, heads: &BTreeMap<u32, BlockHead>) {
        self.read = Some(Instant::now());
        self.looks = self.looks.wrapping_add(1);
        if self.queued == Some(epoch) || heads.is_empty() {
            return;
        }
        let first = self.queued.replace(epoch).is_none();
        self.votes = heads.keys().copied().collect();
        // At the start nobody knows what happened before: every block with a container is looked through.
        let may_have_left = |head: &&BlockHead| head.occupied > if first { 0 } else { head.live };
        self.left.extend(heads.values().filter(may_have_left).map(|head| head.index));
    }

    /// Looks at the chores: some of everything. What was found is kept even when it is cut short.
    pub async fn look(
        &mut self,
        reader: &Reader,
        network: &Network,
        heads: &BTreeMap<u32, BlockHead>,
        wallet: &Address,
        payer: &Address,
        now: i64,
    ) -> Result<(), ReadError> {
        let Ok(epoch) = network.epoch_at(now) else { return Ok(()) };
        self.look_at_keepers(reader, network, wallet, epoch).await?;
        self.look_for_rows(reader, network, heads, epoch, now).await?;
        self.look_at_rows(reader, network, now).await?;
        self.look_at_leases(reader, now).await?;
        self.look_at_rented(reader, payer, epoch).await
    }

    /// Once an epoch: what this keeper pays the rent of, the oldest first.
    async fn look_at_rented(&mut self, reader: &Reader, payer: &Address, epoch: u32) -> Result<(), ReadError> {
        if self.rented == Some(epoch) {
            return Ok(());
        }
        let mut epochs = reader.matching::<Epoch>(&[(offset_of!(Epoch, rent_payer), payer.as_ref())]).await?;
        epochs.sort_by_key(|(_, epoch)| epoch.number);
        let mut cases = reader.matching::<Case>(&[(offset_of!(Case, rent_payer), payer.as_ref())]).await?;
        // Open ones wait for something else.
        cases.retain(|(_, case)| case.status != Case::OPEN);
        cases.sort_by_key(|(_, case)| case.closed);
        let of_epoch = |(address, epoch): &(Address, Box<Epoch>)| {
            (*address, Rented::Epoch { number: epoch.number, released: epoch.released == 1 })
        };
        let of_case = |(address, case): &(Address, Box<Case>)| (*address, Rented::Case { closed: Some(case.closed) });
        let epochs = epochs.iter().take(RENTED).map(of_epoch);
        self.chores.rented = epochs.chain(cases.iter().take(RENTED).map(of_case)).collect();
        self.rented = Some(epoch);
        Ok(())
    }

    /// Looks who else is at work, and what this keeper is owed.
    pub async fn look_at_keepers(
        &mut self,
        reader: &Reader,
        network: &Network,
        wallet: &Address,
        epoch: u32,
    ) -> Result<(), ReadError> {
        let mine = addresses::keeper(wallet);
        self.keeper = reader.find::<Keeper>(&mine).await?.map(|keeper| (mine, keeper));
        let due = self.keeper.as_ref().map_or(0, |(_, keeper)| keeper.due);
        if due > 0 && !self.has_home {
            self.has_home = reader.token_balance(&token::home(wallet, network)).await?.is_some();
            if !self.has_home && !std::mem::replace(&mut self.said_homeless, true) {
                tracing::info!(due, "the pay waits on chain: {wallet} has no token account to withdraw it to");
            }
        }
        let mut all = reader.list::<Keeper>().await?;
        // Whoever did most is the least likely to be a stranger's decoy.
        all.sort_by_key(|(_, keeper)| std::cmp::Reverse(keeper.actions));
        let known: BTreeSet<Address> = all.iter().map(|(_, keeper)| keeper.wallet).collect();
        for (_, keeper) in all.iter().filter(|(_, keeper)| keeper.wallet != *wallet).take(KEEPERS) {
            let other = self.others.entry(keeper.wallet).or_insert(Other { actions: keeper.actions, since: epoch });
            if other.actions != keeper.actions {
                *other = Other { actions: keeper.actions, since: epoch };
            }
        }
        self.others.retain(|wallet, _| known.contains(wallet));
        self.knows_others = true;
        Ok(())
    }

    /// Finds frozen and left rows.
    async fn look_for_rows(
        &mut self,
        reader: &Reader,
        network: &Network,
        heads: &BTreeMap<u32, BlockHead>,
        epoch: u32,
        now: i64,
    ) -> Result<(), ReadError> {
        if let Some(before) = epoch.checked_sub(1) {
            let tallied =
                |index: &&u32| heads.get(*index).is_some_and(|h| h.lane(before).epoch == before && h.lane(before).tallied);
            let some: Vec<u32> = self.votes.iter().filter(tallied).take(VOTES).copied().collect();
            if !some.is_empty() {
                self.accused.extend(read_accused(reader.rpc().as_ref(), before, &some).await?);
                some.iter().for_each(|index| {
                    self.votes.remove(index);
                });
            }
        }
        let some: Vec<u32> = self.accused.iter().chain(&self.left).take(ROWS_OF).copied().collect();
        if some.is_empty() {
            return Ok(());
        }
        let blocks: Vec<Address> = some.iter().map(|index| addresses::block(*index)).collect();
        let read = reader.rpc().slices(&blocks, ROWS_AT, size_of::<[Row; ROWS]>()).await?;
        for (index, account) in some.iter().zip(read) {
            self.accused.remove(index);
            self.left.remove(index);
            self.rows.retain(|(block, _), address| block != index || address.is_some());
            // A block that is gone has no rows.
            let Some(data) = account.map(|a| a.data).filter(|d| d.len() == size_of::<[Row; ROWS]>()) else { continue };
            let mut block = bytemuck::allocation::zeroed_box::<Block>();
            bytemuck::bytes_of_mut(&mut block.rows).copy_from_slice(&data);
            for row in rows_of_interest(network, &block, now) {
                if self.rows.len() < MOST_ROWS {
                    self.rows.entry((*index, row)).or_default();
                }
            }
        }
        Ok(())
    }

    /// Reads the containers and cases of some of the rows that were found.
    async fn look_at_rows(&mut self, reader: &Reader, network: &Network, now: i64) -> Result<(), ReadError> {
        let all: Vec<(u32, u8)> = self.rows.keys().copied().collect();
        let first = if all.is_empty() { 0 } else { self.looks.wrapping_mul(WATCHED) % all.len() };
        let some: Vec<_> = all.iter().cycle().skip(first).take(all.len().min(WATCHED)).copied().collect();
        let mut watched = Vec::with_capacity(some.len());
        for (index, place) in some {
            let known = self.rows.get(&(index, place)).copied().flatten();
            let found = match known {
                Some(address) => reader.find(&address).await?.map(|container| (address, container)),
                None => reader.container_at(index, place).await?,
            };
            let at = ROWS_AT + usize::from(place) * size_of::<Row>();
            let read = reader.rpc().slices(&[addresses::block(index)], at, size_of::<Row>()).await?.pop().flatten();
            let row: Option<Row> = read.and_then(|account| bytemuck::try_pod_read_unaligned(&account.data).ok());
            let (Some((address, container)), Some(row)) = (found, row) else {
                self.rows.remove(&(index, place));
                continue;
            };
            let mut block = bytemuck::allocation::zeroed_box::<Block>();
            block.rows[usize::from(place)] = row;
            if rows_of_interest(network, &block, now).is_empty() {
                self.rows.remove(&(index, place));
                continue;
            }
            self.rows.insert((index, place), Some(address));
            let case = match row.is_accused() {
                true => reader.find(&addresses::case(&address, row.first_condemned, Case::DISHONEST)).await?,
                false => None,
            };
            watched.push(Watched { address, container, row, case });
        }
        self.chores.containers = watched;
        Ok(())
    }

    async fn look_at_leases(&mut self, reader: &Reader, now: i64) -> Result<(), ReadError> {
        if self.leases.is_empty() {
            // A small part first, which tells how many there are.
            let part = Some(0);
            self.leases = [Lease::OPEN, Lease::STARTED, Lease::ENDED].map(|status| Leases { status, part }).into();
        }
        let mut found = Vec::new();
        for of in &mut self.leases {
            let at = offset_of!(Lease, status);
            let mut leases = loop {
                let user = offset_of!(Lease, user);
                let leases = match &of.part {
                    None => reader.matching::<Lease>(&[(at, &[of.status])]).await?,
                    Some(byte) => reader.matching::<Lease>(&[(at, &[of.status]), (user, &[*byte])]).await?,
                };
                match of.part {
                    // Few in a 256th: all of them at once, from now on.
                    Some(_) if leases.len() * 256 < LEASES_A_LOOK / 2 => of.part = None,
                    Some(byte) => {
                        of.part = Some(byte.wrapping_add(1));
                        break leases;
                    }
                    None => {
                        if leases.len() > LEASES_A_LOOK {
                            of.part = Some(0);
                        }
                        break leases;
                    }
                }
            };
            // Those that were settled longest ago first.
            leases.retain(|(_, lease)| lease.status != Lease::OPEN || now > lease.start_by);
            leases.sort_by_key(|(_, lease)| lease.settled_until.max(lease.start_by));
            found.extend(leases.into_iter().take(LEASES));
        }
        self.chores.leases = found;
        Ok(())
    }
}
