//! Who may be a host of a relay. A stranger must not use it as a free tunnel.

use std::{collections::HashSet, str::FromStr, sync::Arc};

use datagalax::state::Container;
use datagalax_client::{Reader, rpc::Rpc};
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
            let found = match self.0.find::<Container>(&container).await {
                Ok(found) => found,
                Err(error) if error.is_transient() => return Err(Denied::Unknown(error.to_string())),
                Err(error) => return Err(Denied::Stranger(format!("{container} is no container: {error}"))),
            };
            match found {
                None => Err(Denied::Stranger(format!(
                    "there is no container at {container} on this relay's cluster: register it first"
                ))),
                Some(found) if found.operator != operator => Err(Denied::Stranger(format!(
                    "the operator of container {container} is {}, not {operator}",
                    found.operator
                ))),
                Some(_) => Ok(()),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
