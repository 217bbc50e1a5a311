//! Who may be a host of a relay. A stranger must not use it as a free tunnel.

use std::{collections::HashSet, str::FromStr, sync::Arc};

use datagalax::state::Container;
use datagalax_client::{ReadError, Reader, accounts::AccountError, rpc::Rpc};
use futures_util::{FutureExt, future::BoxFuture};
use solana_pubkey::Pubkey;
use thiserror::Error;

/// Why a host is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// It has no business here; asking again does not help.
    #[error("{0}")]
    Stranger(String),
    /// It cannot be told now; asking again may help.
    #[error("the relay cannot check hosts at the moment: {0}")]
    Unknown(String),
}

/// Decides who may be a host. The signature of the operator was checked before.
pub trait Admission: Send + Sync + 'static {
    /// Whether this operator may be reached through the relay, for this container.
    ///
    /// # Errors
    /// [`Denied`], with the reason as the host is told it.
    fn admit(&self, container: Pubkey, operator: Pubkey) -> BoxFuture<'_, Result<(), Denied>>;
}

/// Anyone with a key: for a relay that strangers cannot reach.
pub struct Anyone;

impl Admission for Anyone {
    fn admit(&self, _: Pubkey, _: Pubkey) -> BoxFuture<'_, Result<(), Denied>> {
        async { Ok(()) }.boxed()
    }
}

/// The operators of a list.
pub struct Listed(HashSet<Pubkey>);

impl Listed {
    /// Reads a list: an operator key a line, `#` begins a comment.
    ///
    /// # Errors
    /// The first line that is no key, with its number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let keys = lines.enumerate().filter(|(_, line)| !line.is_empty()).map(|(at, line)| {
            Pubkey::from_str(line).map_err(|error| format!("line {}: {line:?} is no key ({error})", at + 1))
        });
        Ok(Self(keys.collect::<Result<_, _>>()?))
    }
}

impl Admission for Listed {
    fn admit(&self, _: Pubkey, operator: Pubkey) -> BoxFuture<'_, Result<(), Denied>> {
        let listed = self.0.contains(&operator);
        async move {
            let stranger = || Denied::Stranger(format!("operator {operator} is not on this relay's list: ask its owner"));
            listed.then_some(()).ok_or_else(stranger)
        }
        .boxed()
    }
}

/// The operators of containers that are registered on chain.
pub struct Registered(Reader);

impl Registered {
    /// Asks this node.
    pub fn new(rpc: Arc<dyn Rpc>) -> Self {
        Self(Reader::new(rpc))
    }
}

impl Admission for Registered {
    fn admit(&self, container: Pubkey, operator: Pubkey) -> BoxFuture<'_, Result<(), Denied>> {
        async move {
            let found = self.0.find::<Container>(&container).await;
            verdict(found.map(|found| found.map(|found| found.operator)), container, operator)
        }
        .boxed()
    }
}

/// What the chain's answer, the operator of the container, means for who asks. Only the chain's word makes a stranger: a node
/// that fails, refuses or is newer than this relay puts nobody out.
fn verdict(found: Result<Option<Pubkey>, ReadError>, container: Pubkey, operator: Pubkey) -> Result<(), Denied> {
    match found {
        Ok(Some(registered)) if registered == operator => Ok(()),
        Ok(Some(registered)) => {
            Err(Denied::Stranger(format!("the operator of container {container} is {registered}, not {operator}")))
        }
        Ok(None) => {
            Err(Denied::Stranger(format!("there is no container at {container} on this relay's cluster: register it first")))
        }
        Err(ReadError::Account(error @ (AccountError::WrongOwner { .. } | AccountError::WrongType { .. }))) => {
            Err(Denied::Stranger(error.to_string()))
        }
        Err(error) => Err(Denied::Unknown(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use datagalax_client::rpc::RpcError;

    use super::*;

    #[test]
    fn only_the_chains_word_makes_a_stranger() {
        let [operator, other, container] = [[1; 32], [2; 32], [3; 32]].map(Pubkey::new_from_array);
        let of = |found| verdict(found, container, operator);
        assert_eq!(of(Ok(Some(operator))), Ok(()));
        let url = || "http://node".to_owned();
        let what = "container";
        let strangers = [
            Ok(None),
            Ok(Some(other)),
            Err(AccountError::WrongOwner { what, address: container, owner: other }.into()),
            Err(AccountError::WrongType { what, address: container }.into()),
        ];
        for found in strangers {
            assert!(matches!(of(found.clone()), Err(Denied::Stranger(_))), "{found:?}");
        }
        let unknown = [
            RpcError::Down { url: url(), reason: "refused".into() }.into(),
            // A key that lapsed, for example.
            RpcError::Refused { url: url(), code: -32_000, message: "unauthorised".into() }.into(),
            AccountError::WrongVersion { what, address: container, version: 9 }.into(),
        ];
        for error in unknown {
            assert!(matches!(of(Err(error)), Err(Denied::Unknown(_))));
        }
    }

    #[tokio::test]
    async fn a_list_admits_its_keys() {
        let [known, other, container] = [[1; 32], [2; 32], [3; 32]].map(Pubkey::new_from_array);
        let list = Listed::parse(&format!("# ours\n\n  {known} # the first\n")).unwrap();
        assert_eq!(list.admit(container, known).await, Ok(()));
        assert!(matches!(list.admit(container, other).await, Err(Denied::Stranger(_))));
        let error = Listed::parse(&format!("{known}\n\nnonsense\n")).err().unwrap();
        assert!(error.starts_with("line 3: \"nonsense\""), "{error}");
    }
}
