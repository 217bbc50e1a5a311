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
        /// Lamports that it was charged all the same.
        fee: u64,
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
        "it is not known whether `{label}` landed ({signature}): {reason}. It stays in the pending store and is looked for in the background; sent again, the same waits for it"
    )]
    Unknown {
        /// What was tried.
        label: String,
        /// The transaction.
        signature: Signature,
        /// What the node said last.
        reason: String,
    },
    /// What was sent before must be found out first.
    #[error(
        "cannot {label} yet: it is not known whether `{left}` of before landed ({reason}). Nothing new is sent until it is"
    )]
    Unresolved {
        /// What was tried.
        label: String,
        /// What is not resolved.
        left: String,
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
            Self::Expired { .. } | Self::Unknown { .. } | Self::Unresolved { .. } => true,
            Self::Refused { refusal, .. } => matches!(refusal.error, TransactionError::BlockhashNotFound),
            Self::Failed { .. } | Self::TooLarge { .. } | Self::Unsigned { .. } | Self::Store(_) => false,
        }
    }

    /// The same error for one of several actions that shared a transaction.
    pub(super) fn for_action(&self, label: &str) -> Self {
        let label = label.to_owned();
        match self {
            Self::Rpc(error) => Self::Rpc(error.clone()),
            Self::Refused { refusal, .. } => Self::Refused { label, refusal: refusal.clone() },
            Self::Failed { signature, refusal, fee, .. } => {
                Self::Failed { label, signature: *signature, refusal: refusal.clone(), fee: *fee }
            }
            Self::Expired { attempts, .. } => Self::Expired { label, attempts: *attempts },
            Self::Unknown { signature, reason, .. } => {
                Self::Unknown { label, signature: *signature, reason: reason.clone() }
            }
            Self::Unresolved { left, reason, .. } => Self::Unresolved { label, left: left.clone(), reason: reason.clone() },
            Self::TooLarge { bytes, .. } => Self::TooLarge { label, bytes: *bytes },
            Self::Unsigned { reason, .. } => Self::Unsigned { label, reason: reason.clone() },
            Self::Store(error) => Self::Store(error.again()),
        }
    }

    /// The error of an action that was not tried because another one ended like this.
    pub(super) fn not_tried(&self, label: &str) -> Self {
        match self {
            Self::Unknown { label: left, reason, .. } => {
                Self::Unresolved { label: label.to_owned(), left: left.clone(), reason: reason.clone() }
            }
            other => other.for_action(label),
        }
    }
}
