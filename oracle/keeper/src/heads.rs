//! What a round needs of a block, and nothing else: 168 of its 41,464 bytes.

use std::mem::offset_of;

use anchor_lang::Discriminator;
use datagalax::{
    constants::DISHONEST,
    state::{Block, Lane, Seat, VERSION},
};
use datagalax_client::{
    Address, ReadError,
    accounts::{AccountError, AccountType, DISCRIMINATOR_LEN},
    addresses::{self, PROGRAM},
    rpc::Rpc,
};
use solana_account::Account;

/// Bytes of a lane's own head: epoch, cursor, seats, tallied.
pub const LANE_HEAD: usize = offset_of!(Lane, entropy);
/// Where the head of each lane begins in the account.
pub const LANES_AT: [usize; 2] =
    [DISCRIMINATOR_LEN + offset_of!(Block, lanes), DISCRIMINATOR_LEN + offset_of!(Block, lanes) + size_of::<Lane>()];
/// Bytes from the account's beginning to the end of the head of its first lane.
pub const HEAD: usize = LANES_AT[0] + LANE_HEAD;
/// Availability of two seats of a lane, from the lane's beginning: where it begins, and how many bytes it takes.
const TWO_SEATS: (usize, usize) = (
    offset_of!(Lane, committee) + offset_of!(Seat, availability),
    size_of::<Seat>() + size_of::<[u8; datagalax::constants::ROWS]>(),
);

/// The head of one epoch's committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneHead {
    /// Epoch, [`datagalax::constants::NONE`] before the first.
    pub epoch: u32,
    /// Rows tallied.
    pub cursor: u16,
    /// Seats filled.
    pub seats: u8,
    /// Whether the tally is done.
    pub tallied: bool,
}

impl LaneHead {
    /// Of a lane that was read.
    pub fn of(lane: &Lane) -> Self {
        Self { epoch: lane.epoch, cursor: lane.cursor, seats: lane.seats, tallied: lane.tallied != 0 }
    }

    /// From the first [`LANE_HEAD`] bytes of a lane; `None` when there are fewer.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LANE_HEAD] = bytes.get(..LANE_HEAD)?.try_into().ok()?;
        let [e0, e1, e2, e3, c0, c1, seats, tallied] = *bytes;
        let (epoch, cursor) = (u32::from_le_bytes([e0, e1, e2, e3]), u16::from_le_bytes([c0, c1]));
        Some(Self { epoch, cursor, seats, tallied: tallied != 0 })
    }
}

/// What decides about a block's committee and tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    /// Index.
    pub index: u32,
    /// First epoch it may be seated in.
    pub seated_from: u32,
    /// Last epoch tallied to the end.
    pub last_tallied: u32,
    /// Rows occupied.
    pub occupied: u16,
    /// Rows live; an occupied one that is not is being checked, or has left.
    pub live: u16,
    /// The lanes of even and odd epochs.
    pub lanes: [LaneHead; 2],
}

impl BlockHead {
    /// Of a whole block.
    pub fn of(block: &Block) -> Self {
        Self {
            index: block.index,
            seated_from: block.seated_from,
            last_tallied: block.last_tallied,
            occupied: block.occupied,
            live: block.live,
            lanes: [LaneHead::of(&block.lanes[0]), LaneHead::of(&block.lanes[1])],
        }
    }

    /// The lane of an epoch's parity, whichever epoch is in it.
    pub const fn lane(&self, epoch: u32) -> &LaneHead {
        &self.lanes[(epoch & 1) as usize]
    }

    /// Whether it wants a committee for this epoch, once that is drawn.
    pub const fn wants_seats(&self, epoch: u32) -> bool {
        let lane = self.lane(epoch);
        let behind = lane.epoch == datagalax::constants::NONE || lane.epoch < epoch;
        self.occupied > 0 && self.seated_from <= epoch && behind
    }

    /// Whether it has a committee for this epoch whose reports are not judged to the end.
    pub const fn wants_tally(&self, epoch: u32) -> bool {
        let lane = self.lane(epoch);
        lane.epoch == epoch && !lane.tallied
    }

    /// A block that knows what this head does and nothing of its rows: how far a lease can be settled depends on no more.
    pub fn sketch(&self) -> Box<Block> {
        let mut block = bytemuck::allocation::zeroed_box::<Block>();
        (block.index, block.seated_from, block.last_tallied) = (self.index, self.seated_from, self.last_tallied);
        (block.occupied, block.live) = (self.occupied, self.live);
        for (lane, head) in block.lanes.iter_mut().zip(self.lanes) {
            (lane.epoch, lane.cursor) = (head.epoch, head.cursor);
            (lane.seats, lane.tallied) = (head.seats, u8::from(head.tallied));
        }
        block
    }

    /// From the first [`HEAD`] bytes of the account and the head of its second lane; `None` for one that still grows.
    fn read(address: &Address, account: &Account, second: LaneHead) -> Result<Option<Self>, AccountError> {
        let (what, address) = (Block::NAME, *address);
        if account.owner != PROGRAM {
            return Err(AccountError::WrongOwner { what, address, owner: account.owner });
        }
        let Some(body) = account.data.strip_prefix(<Block as Discriminator>::DISCRIMINATOR) else {
            return Err(AccountError::WrongType { what, address });
        };
        let number = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
        let count = |at: usize| Some(u16::from_le_bytes(body.get(at..at + 2)?.try_into().ok()?));
        let read = || {
            Some(Self {
                index: number(offset_of!(Block, index))?,
                seated_from: number(offset_of!(Block, seated_from))?,
                last_tallied: number(offset_of!(Block, last_tallied))?,
                occupied: count(offset_of!(Block, occupied))?,
                live: count(offset_of!(Block, live))?,
                lanes: [LaneHead::read(body.get(offset_of!(Block, lanes)..)?)?, second],
            })
        };
        let too_short = AccountError::TooShort { what, address, have: account.data.len(), need: HEAD };
        let head = read().ok_or(too_short)?;
        match body[offset_of!(Block, version)] {
            VERSION => Ok((body[offset_of!(Block, full)] != 0).then_some(head)),
            version => Err(AccountError::WrongVersion { what, address, version }),
        }
    }
}

/// Reads the heads of these blocks: two requests for each hundred. One that is missing or still grows is left out.
///
/// # Errors
/// The node does not answer, or an account is no block.
pub async fn read_heads(rpc: &dyn Rpc, blocks: &[u32]) -> Result<Vec<BlockHead>, ReadError> {
    let addresses: Vec<Address> = blocks.iter().map(|index| addresses::block(*index)).collect();
    // The second lane first: a block that is seated or tallied between the two is seen as it was, and looked at again before
    // anything is sent.
    let seconds = rpc.slices(&addresses, LANES_AT[1], LANE_HEAD).await?;
    let firsts = rpc.slices(&addresses, 0, HEAD).await?;
    let mut heads = Vec::with_capacity(blocks.len());
    for ((address, first), second) in addresses.iter().zip(firsts).zip(seconds) {
        // One that grows is too short for a second lane; one that only ever received lamports is none.
        let (Some(first), Some(second)) = (first, second.and_then(|account| LaneHead::read(&account.data))) else {
            continue;
        };
        heads.extend(BlockHead::read(address, &first, second)?);
    }
    Ok(heads)
}

/// Reads the heads of the lanes of one epoch's parity; `None` where there is no block of full length. A request for each hundred.
///
/// # Errors
/// The node does not answer.
pub async fn read_lanes(rpc: &dyn Rpc, epoch: u32, blocks: &[u32]) -> Result<Vec<Option<LaneHead>>, ReadError> {
    let addresses: Vec<Address> = blocks.iter().map(|index| addresses::block(*index)).collect();
    let read = rpc.slices(&addresses, LANES_AT[(epoch & 1) as usize], LANE_HEAD).await?;
    let lane = |account: Option<Account>| account.filter(|a| a.owner == PROGRAM).and_then(|a| LaneHead::read(&a.data));
    Ok(read.into_iter().map(lane).collect())
}

/// Of these blocks, those in which a row may have been condemned for an epoch, read while its lane still holds the reports. A
/// verdict takes two of three, three of four or four of five votes, so that of any two seats one is an accuser's: two are read.
///
/// # Errors
/// The node does not answer.
pub async fn read_accused(rpc: &dyn Rpc, epoch: u32, blocks: &[u32]) -> Result<Vec<u32>, ReadError> {
    let addresses: Vec<Address> = blocks.iter().map(|index| addresses::block(*index)).collect();
    let (at, bytes) = TWO_SEATS;
    let read = rpc.slices(&addresses, LANES_AT[(epoch & 1) as usize] + at, bytes).await?;
    let seat = size_of::<[u8; datagalax::constants::ROWS]>();
    let accuses = |account: &Account| {
        let data = &account.data;
        let (first, second) = (data.get(..seat).unwrap_or(data), data.get(size_of::<Seat>()..).unwrap_or_default());
        first.iter().chain(second).any(|vote| vote & DISHONEST != 0)
    };
    let of = |(block, account): (&u32, Option<Account>)| account.filter(accuses).map(|_| *block);
    Ok(blocks.iter().zip(read).filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use datagalax::constants::NONE;

    use super::*;

    /// A block whose every field that is read differs from every other.
    fn block() -> Box<Block> {
        let mut block = bytemuck::allocation::zeroed_box::<Block>();
        (block.version, block.full, block.index) = (VERSION, 1, 0x0102_0304);
        (block.seated_from, block.last_tallied, block.occupied, block.live) = (5, 6, 200, 199);
        for (i, lane) in (0u8..).zip(&mut block.lanes) {
            (lane.epoch, lane.cursor) = (70 + u32::from(i), 100 + u16::from(i));
            (lane.seats, lane.tallied) = (3 + i, i);
        }
        block
    }

    fn account(block: &Block) -> Account {
        let mut data = <Block as Discriminator>::DISCRIMINATOR.to_vec();
        data.extend_from_slice(bytemuck::bytes_of(block));
        Account { lamports: 1, data, owner: PROGRAM, executable: false, rent_epoch: 0 }
    }

    /// What a node cuts out.
    fn cut(account: &Account, from: usize, bytes: usize) -> Account {
        let end = (from + bytes).min(account.data.len());
        Account { data: account.data[from.min(end)..end].to_vec(), ..account.clone() }
    }

    fn read(account: &Account) -> Result<Option<BlockHead>, AccountError> {
        let second = LaneHead::read(&cut(account, LANES_AT[1], LANE_HEAD).data).unwrap();
        BlockHead::read(&addresses::block(1), &cut(account, 0, HEAD), second)
    }

    #[test]
    fn the_offsets_are_those_of_the_layout() {
        let block = block();
        let head = read(&account(&block)).unwrap().unwrap();
        assert_eq!(head, BlockHead::of(&block));
        assert_eq!((head.lanes[0].epoch, head.lanes[1].epoch, head.lanes[1].tallied), (70, 71, true));
        assert_eq!(BlockHead::of(&head.sketch()), head);
        assert_eq!((HEAD, LANE_HEAD), (152, 8));
    }

    #[test]
    fn what_is_no_whole_block_is_named_or_left_out() {
        let mut growing = block();
        growing.full = 0;
        assert_eq!(read(&account(&growing)).unwrap(), None);
        let mut newer = block();
        newer.version = VERSION + 1;
        assert!(matches!(read(&account(&newer)), Err(AccountError::WrongVersion { .. })));
        let mut other = account(&block());
        other.data[0] ^= 1;
        assert!(matches!(read(&other), Err(AccountError::WrongType { .. })));
        let foreign = Account { owner: Address::default(), ..account(&block()) };
        assert!(matches!(read(&foreign), Err(AccountError::WrongOwner { .. })));
    }

    #[test]
    fn the_votes_of_two_seats_lie_where_they_are_read() {
        let mut block = block();
        for (seat, value) in [(0usize, 1u8), (1, 2), (2, 3)] {
            block.lanes[1].committee[seat].availability = [value; 256];
            block.lanes[1].committee[seat].capacity = [99; 256];
        }
        let votes = cut(&account(&block), LANES_AT[1] + TWO_SEATS.0, TWO_SEATS.1).data;
        assert_eq!((&votes[..256], &votes[size_of::<Seat>()..]), (&[1u8; 256][..], &[2u8; 256][..]));
    }

    #[test]
    fn a_block_wants_what_its_lane_lacks() {
        let mut head = BlockHead::of(&block());
        assert!(head.wants_seats(72) && !head.wants_seats(71) && !head.wants_seats(70));
        assert!(head.wants_tally(70) && !head.wants_tally(71) && !head.wants_tally(72));
        head.lanes[0].epoch = NONE;
        assert!(head.wants_seats(72), "its first committee");
        head.occupied = 0;
        assert!(!head.wants_seats(72), "nobody is in it");
    }
}
