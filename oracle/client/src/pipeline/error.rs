//! Why a transaction did not succeed.

use solana_signature::Signature;
use solana_transaction_error::TransactionError;
use thiserror::Error;

use super::{MAX_TRANSACTION, StoreError};
use crate::{refusal::Refusal, rpc::RpcError};

/// Why a transaction did not succeed.
#[derive(Debug, Error)]
pub enum SendError {
    /// The node did not answer before anything was sent.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// It fails, so it was not sent.
    #[error("cannot {label}: {refusal}")]
    Refused {
        /// What was tried.
        label: String,
        /// By whom and why.
        refusal: Box<Refusal>,
    },
    /// It landed and failed: somebody else's transaction came between simulation and landing.
    #[error("cannot {label} ({signature} landed and failed): {refusal}")]
    Failed {
        /// What was tried.
        label: String,
        /// The transaction.
        signature: Signature,
        /// By whom and why.
        refusal: Box<Refusal>,
    },
    /// No signing of it landed before its blockhash expired. Nothing was done.
    #[error(
        "cannot {label}: none of {attempts} signed transactions landed. The cluster is busy or the node is cut off from it; try again later, with a higher priority fee"
    )]
    Expired {
        /// What was tried.
        label: String,
        /// Times it was signed.
        attempts: u32,
    },
    /// The node stopped answering after the transaction was sent.
    #[error(
        "it is not known whether `{label}` landed ({signature}): {reason}. It stays in the pending store and is resolved at the next start"
    )]
    Unknown {
        /// What was tried.
        label: String,
        /// The transaction.
        signature: Signature,
        /// What the node said last.
        reason: String,
    },
    /// The instructions need more bytes than a transaction has.
    #[error("cannot {label}: it takes {bytes} bytes, a transaction holds {MAX_TRANSACTION}: do less in one")]
    TooLarge {
        /// What was tried.
        label: String,
        /// Bytes it would take.
        bytes: usize,
    },
    /// A key that the instructions need did not sign.
    #[error(
        "cannot {label}: it is not signed by all it needs ({reason}). Pass every key that its instructions name as signer"
    )]
    Unsigned {
        /// What was tried.
        label: String,
        /// What is missing.
        reason: String,
    },
    /// The pending store cannot be used, so nothing was sent.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SendError {
    /// The refusal, whether before or after landing.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } | Self::Failed { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// Whether the Datagalax program refused with this error.
    pub fn is(&self, error: datagalax::error::DatagalaxError) -> bool {
        self.refusal().is_some_and(|r| r.is(error))
    }

    /// Whether the same may succeed later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Rpc(e) => e.is_transient(),
            Self::Expired { .. } | Self::Unknown { .. } => true,
            Self::Refused { refusal, .. } => matches!(refusal.error, TransactionError::BlockhashNotFound),
            Self::Failed { .. } | Self::TooLarge { .. } | Self::Unsigned { .. } | Self::Store(_) => false,
        }
    }
}
