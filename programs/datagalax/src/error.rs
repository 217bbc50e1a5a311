//! Every refusal by name. Codes are `6000 + position`: append only, never reorder.

use anchor_lang::prelude::*;

/// Code of the first error; they count from it.
pub const FIRST_CODE: u32 = 6_000;

/// Why an instruction was refused, in words a person understands.
#[error_code]
#[derive(Debug, PartialEq, Eq)]
pub enum DatagalaxError {
    /// 6000
    #[msg("Arithmetic left its range; nothing was changed")]
    Overflow,
    /// 6001
    #[msg("The books would no longer balance; nothing was changed. Please report this transaction")]
    InvariantViolated,
    /// 6002
    #[msg("This key may not do that; sign with the key that the account names")]
    Unauthorized,
    /// 6003
    #[msg("Only the program's upgrade authority may initialise the network")]
    NotUpgradeAuthority,
    /// 6004
    #[msg("The mint must have 6 decimals, exist, and have no freeze authority unless that was allowed")]
    MintRefused,
    /// 6005
    #[msg("A parameter is out of its bounds")]
    ParameterOutOfBounds,
    /// 6006
    #[msg("The windows do not fit the epoch's length")]
    WindowsDoNotFit,
    /// 6007
    #[msg("The first epoch has not started yet")]
    NotStarted,
    /// 6008
    #[msg("The network is paused")]
    Paused,
    /// 6009
    #[msg("This is not the account the network names here")]
    WrongAccount,
    /// 6010
    #[msg("The amount must be above zero and at most 2^56 base units")]
    BadAmount,
    /// 6011
    #[msg("The class's weight exceeds its share of reference throughput")]
    ClassTooHeavy,
    /// 6012
    #[msg("The class takes no new containers")]
    ClassInactive,
    /// 6013
    #[msg("Not enough free stake: stake more first")]
    StakeTooLow,
    /// 6014
    #[msg("The block is not at its full length yet: grow it first")]
    BlockNotFull,
    /// 6015
    #[msg("The block has its full length already")]
    BlockFull,
    /// 6016
    #[msg("There are free rows: register in a block that has one")]
    FreeRowsLeft,
    /// 6017
    #[msg("The block has no free row: name another block")]
    NoFreeRow,
    /// 6018
    #[msg("The endpoint must be 1 to 128 bytes of UTF-8")]
    BadEndpoint,
    /// 6019
    #[msg("A field of the container is out of its range")]
    BadContainer,
    /// 6020
    #[msg("The number of tickets must be 1 to 150 a call, and the set holds at most 150,000")]
    BadTicketCount,
    /// 6021
    #[msg("The epoch is not the one the clock is in")]
    WrongEpoch,
    /// 6022
    #[msg("The network has not advanced to an epoch yet: advance first")]
    NotAdvanced,
    /// 6023
    #[msg("The epoch was advanced to already")]
    AlreadyAdvanced,
    /// 6024
    #[msg("Churn has tickets to let in first")]
    ChurnPending,
    /// 6025
    #[msg("Nothing is left to churn at this boundary")]
    NothingToChurn,
    /// 6026
    #[msg("The epoch was drawn already")]
    AlreadyDrawn,
    /// 6027
    #[msg("The draw slot has not passed yet: try again in a moment")]
    TooEarlyToDraw,
    /// 6028
    #[msg("The epoch was not drawn in its first quarter: it is void")]
    EpochVoid,
    /// 6029
    #[msg("The epoch is not drawn yet")]
    NotDrawn,
    /// 6030
    #[msg("The block has a committee for this epoch already")]
    AlreadySeated,
    /// 6031
    #[msg("The block has no committee for this epoch")]
    NotSeated,
    /// 6032
    #[msg("The block has no container that was present for the whole epoch")]
    BlockEmpty,
    /// 6033
    #[msg("The seat does not exist or is empty")]
    NoSuchSeat,
    /// 6034
    #[msg("Commits are taken from the draw until the epoch's end")]
    OutsideCommitWindow,
    /// 6035
    #[msg("A commitment of zeros is not one")]
    EmptyCommitment,
    /// 6036
    #[msg("The first commit of a seat must pass its checker account")]
    CheckerRequired,
    /// 6037
    #[msg("Reports are revealed only in the window after the epoch's end")]
    OutsideRevealWindow,
    /// 6038
    #[msg("This seat committed to nothing")]
    NotCommitted,
    /// 6039
    #[msg("This seat has revealed already")]
    AlreadyRevealed,
    /// 6040
    #[msg("The report is not the one that was committed to")]
    CommitmentMismatch,
    /// 6041
    #[msg("The tally runs from the end of reveals until the end of the next epoch")]
    OutsideTallyWindow,
    /// 6042
    #[msg("The block was tallied for this epoch already")]
    AlreadyTallied,
    /// 6043
    #[msg("Name at least one row")]
    NoRows,
    /// 6044
    #[msg("A row belongs to another provider")]
    NotYourRow,
    /// 6045
    #[msg("Nothing to pay")]
    NothingToPay,
    /// 6046
    #[msg("A slot belongs to another checker")]
    NotYourTicket,
    /// 6047
    #[msg("The SlotHashes account does not read as one")]
    BadSlotHashes,
    /// 6048
    #[msg("The network's current epoch account must be passed")]
    CurrentEpochRequired,
    /// 6049
    #[msg("The epoch before must be passed, because its reservation is not released yet")]
    PreviousEpochRequired,
    /// 6050
    #[msg("The account exists already")]
    AlreadyExists,
    /// 6051
    #[msg("The mint has an extension that gives somebody power over other people's tokens; the log names its number")]
    MintExtensionRefused,
    /// 6052
    #[msg("Nothing is pending: propose it first")]
    NothingPending,
    /// 6053
    #[msg("The time lock has not run out yet: try again when it has")]
    TimeLocked,
    /// 6054
    #[msg("The epoch's lengths changed a moment ago: propose another change two epochs later")]
    GridChangePending,
    /// 6055
    #[msg("Eight sets of vesting terms may still be in use: wait until the oldest have vested")]
    TooManyVestingTerms,
    /// 6056
    #[msg("The guardian paused the network less than 7 days ago: ask the authority")]
    GuardianRests,
    /// 6057
    #[msg("The network is not paused")]
    NotPaused,
    /// 6058
    #[msg("Only the key that was named as the next one may accept")]
    NotNamed,
    /// 6059
    #[msg("All eight requests to unstake are waiting: withdraw one that has unlocked first")]
    TooManyRequests,
    /// 6060
    #[msg("So much left the vault in 24 hours that the circuit breaker is open: try again later")]
    BreakerOpen,
    /// 6061
    #[msg("The container is halted because it lacks stake: restore it first")]
    ContainerHalted,
    /// 6062
    #[msg("The container is not halted")]
    NotHalted,
    /// 6063
    #[msg("It is leaving already")]
    AlreadyLeaving,
    /// 6064
    #[msg("The container has an open or running lease, or one that is not settled: close and settle it first")]
    ContainerLeased,
    /// 6065
    #[msg("A case is pending against the container: it must be closed first")]
    ContainerAccused,
    /// 6066
    #[msg("The container must be deregistered first, and its last epochs tallied")]
    NotLeaving,
    /// 6067
    #[msg("Announce maintenance at least 24 hours ahead, of at most 8 hours in 30 days")]
    BadMaintenance,
    /// 6068
    #[msg("A ticket is not in the state for this: only tickets that wait or sit may leave, only removed ones are withdrawn")]
    TicketNotInOrder,
    /// 6069
    #[msg("A ticket's last epochs are not over, its time has not come, or its pay is not claimed yet")]
    TicketResting,
    /// 6070
    #[msg("The container takes no new leases now")]
    NotAccepting,
    /// 6071
    #[msg("The container is not live: it is being checked or leaving")]
    NotLive,
    /// 6072
    #[msg("The container asks more per hour than you allowed")]
    TooDear,
    /// 6073
    #[msg("A lease lasts at least 600 seconds, the container's minimum, and at most 366 days")]
    BadDuration,
    /// 6074
    #[msg("The lease is not in the state for this")]
    WrongLeaseState,
    /// 6075
    #[msg("The lease was not started in time: cancel it, everything goes back")]
    StartTimedOut,
    /// 6076
    #[msg("The host may still start the lease: wait until its time is over")]
    StartNotTimedOut,
    /// 6077
    #[msg("A lease is closed as not served within 300 seconds of its start, once a day for each container")]
    NotServedTooLate,
    /// 6078
    #[msg("The lease still runs: only its user or the container's operator may close it")]
    LeaseRunning,
    /// 6079
    #[msg("Nothing can be settled yet: the epoch is not over or not tallied")]
    NothingToSettle,
    /// 6080
    #[msg("Usage is cumulative and bounded by time: it never falls and never exceeds the clock")]
    UsageWentBack,
    /// 6081
    #[msg("The indexer's signature is missing: put the Ed25519 instruction right before this one")]
    MatchMissing,
    /// 6082
    #[msg("The indexer's signature is not for this user, container, lease and moment")]
    MatchMismatch,
    /// 6083
    #[msg("The indexer is leaving: it matches nobody any more")]
    IndexerLeaving,
    /// 6084
    #[msg("No case is pending against the container")]
    NotAccused,
    /// 6085
    #[msg("The case's window is not over, or its last epochs are not tallied")]
    CaseOpen,
    /// 6086
    #[msg("The case is closed already")]
    CaseClosed,
    /// 6087
    #[msg("The lease was not breached in two whole epochs in a row, or maintenance had been announced")]
    NoBreach,
    /// 6088
    #[msg("Stake was taken for a breach within the last day, or for these epochs")]
    BreachedToday,
    /// 6089
    #[msg("No stake is taken while there are fewer than 15 tickets")]
    TooFewTickets,
    /// 6090
    #[msg("The account is still needed: pay out and settle everything first")]
    NotDone,
    /// 6091
    #[msg("Somebody opened a case against the container: close it instead")]
    CaseExists,
    /// 6092
    #[msg("The account belongs to another program than it must")]
    ForeignAccount,
    /// 6093
    #[msg("The account is of another kind than it must be")]
    WrongAccountKind,
    /// 6094
    #[msg("The account is cut short, too long, or not grown to its full length yet")]
    WrongAccountLength,
}
