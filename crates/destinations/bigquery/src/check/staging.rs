//! The bucket: whether it is there, whether BigQuery loads from it, what we may do in it.

use longshore_core::inspection::{Finding, Verdict};

use super::granted::lacking;
use super::needs::{BUCKETS_GET, role};
use crate::bucket::Bucket;
use crate::error::{Failure, codes};
use crate::tables::Tables;

/// Looks at the bucket. `located` says whether the dataset's place is known, which the bucket's is compared with.
pub(super) async fn look(bucket: &Bucket, tables: &Tables, needed: &[&'static str], located: bool, findings: &mut Vec<Finding>) {
    let name = format!("bucket {}", bucket.name());
    let granted = bucket.granted(needed).await;
    if let Err(Failure::Refused(refusal)) = &granted
        && refusal.is_missing()
    {
        let hint = format!("make it with `gcloud storage buckets create gs://{}` at the dataset's own place", bucket.name());
        findings.push(Finding::new("bucket", Verdict::Wrong, format!("there is no {name}")).hint(hint));
        return;
    }
    if located && needed.contains(&BUCKETS_GET) {
        findings.extend(place(bucket, tables).await);
    }
    for permission in needed.iter().copied() {
        findings.push(match &granted {
            Ok(granted) if granted.iter().any(|granted| granted == permission) => {
                Finding::fine(permission, format!("granted on {name}"))
            }
            Ok(_) => lacking(permission, &name, &name),
            Err(_) => Finding::new(permission, Verdict::Unknown, format!("cannot be told yet for {name}"))
                .hint(format!("`{}` on {name} has it", role(permission))),
        });
    }
}

/// Whether BigQuery loads from where the bucket lies. Nothing if we may not see where that is, which is a permission of its own.
async fn place(bucket: &Bucket, tables: &Tables) -> Option<Finding> {
    match bucket.check(tables).await {
        Ok(()) => Some(Finding::fine("bucket", format!("{} lies where BigQuery loads from", bucket.name()))),
        Err(error) if error.code() == codes::DENIED.name => None,
        Err(error) => {
            let known = [codes::LOCATION.name, codes::STAGING.name].contains(&error.code());
            let verdict = if known { Verdict::Wrong } else { Verdict::Unknown };
            Some(Finding::of_error("bucket", verdict, &error))
        }
    }
}
