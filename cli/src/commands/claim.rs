//! Everything that one key may claim. Rewards of rows become grants that vest; `withdraw` pays what has.

use anyhow::{Result, ensure};
use datagalax::state::{Checker, Provider};

use super::{checker, provider};
use crate::{context::Context, report::Report};

/// Claims for every provider that the key operates or owns and every checker that it operates, owns or is paid out for.
pub async fn run(context: &Context) -> Result<Report> {
    context.network().await?;
    let signing = context.signer().await?;
    let me = signing.address();
    let (mut report, mut mine, mut anything) = (Report::new(), 0, false);
    for (_, provider) in context.reader.list::<Provider>().await? {
        if [provider.operator, provider.owner].contains(&me) {
            mine += 1;
            let claimed = provider::claim_all(context, &signing, &provider).await?;
            if !claimed.is_empty() {
                anything = true;
                report = report.and(provider::report(context, &provider, claimed).await?);
            }
        }
    }
    for (_, checker) in context.reader.list::<Checker>().await? {
        if [checker.operator, checker.owner, checker.payout].contains(&me) {
            mine += 1;
            if let Some(part) = checker::claim_all(context, &signing, &checker).await? {
                anything = true;
                report = report.and(part);
            }
        }
    }
    ensure!(mine > 0, "{me} belongs to no provider and no checker: name another key with --keypair, or register one");
    if !anything {
        report = report.note("Nothing to claim yet: wait until an epoch was tallied in which something was earned.");
    }
    Ok(report)
}
