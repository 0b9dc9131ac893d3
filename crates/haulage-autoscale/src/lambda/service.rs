//! What ECS knows of services.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ecs::{Client, operation::describe_services::DescribeServicesOutput};
use futures_util::future::join_all;
use haulage_autoscale::Service;

use crate::{event::Pair, failure::Failure, limit::Limit};

const CALL: &str = "ecs:DescribeServices";

/// Services in one call, all of one cluster (ECS API Reference, "DescribeServices").
const BATCH: usize = 10;

/// The counts of each pair's service, in the order of the pairs.
pub(crate) async fn counts(ecs: &Client, pairs: &[Pair], limit: &Limit) -> Vec<Result<Service, Failure>> {
    let mut clusters = BTreeMap::<&str, BTreeSet<&str>>::new();
    for pair in pairs {
        clusters.entry(pair.cluster.as_str()).or_default().insert(pair.service.as_str());
    }
    let clusters: Vec<(&str, Vec<&str>)> =
        clusters.into_iter().map(|(cluster, services)| (cluster, services.into_iter().collect())).collect();
    let calls = clusters.iter().flat_map(|(cluster, services)| {
        services.chunks(BATCH).map(move |batch| async move {
            let found = describe_each(ecs, cluster, batch, limit).await;
            batch.iter().map(|service| (*cluster, *service)).zip(found).collect::<Vec<_>>()
        })
    });
    let found: BTreeMap<_, _> = join_all(calls).await.into_iter().flatten().collect();
    pairs.iter().map(|pair| found[&(pair.cluster.as_str(), pair.service.as_str())].clone()).collect()
}

/// One call for all. Where it is refused, one for each: a role that may not
/// see one of ten services is refused all ten.
async fn describe_each(
    ecs: &Client,
    cluster: &str,
    services: &[&str],
    limit: &Limit,
) -> Vec<Result<Service, Failure>> {
    match describe(ecs, cluster, services, limit).await {
        Ok(answer) => services.iter().map(|service| find(&answer, service)).collect(),
        Err(failure) if services.len() > 1 && failure.may_concern_one() => {
            let calls = services.iter().map(|service| async move {
                find(&describe(ecs, cluster, std::slice::from_ref(service), limit).await?, service)
            });
            join_all(calls).await
        }
        Err(failure) => vec![Err(failure); services.len()],
    }
}

async fn describe(
    ecs: &Client,
    cluster: &str,
    services: &[&str],
    limit: &Limit,
) -> Result<DescribeServicesOutput, Failure> {
    let names = services.iter().map(ToString::to_string).collect();
    let call = ecs.describe_services().cluster(cluster).set_services(Some(names));
    let call = async { call.send().await.map_err(|error| Failure::of_call(CALL, &error)) };
    limit.within(CALL, call).await
}

fn find(answer: &DescribeServicesOutput, name: &str) -> Result<Service, Failure> {
    let Some(service) = answer.services().iter().find(|service| service.service_name() == Some(name)) else {
        let is_it = |arn: &str| arn.rsplit('/').next() == Some(name);
        let told = answer.failures().iter().find(|failure| failure.arn().is_some_and(is_it));
        let code = told.and_then(|failure| failure.reason()).unwrap_or("MISSING");
        return Err(Failure::new(CALL, code, format!("there is no service {name}")));
    };
    // ECS goes on to show a service for a while after it was deleted.
    if service.status() == Some("INACTIVE") {
        return Err(Failure::new(CALL, "INACTIVE", format!("the service {name} is deleted")));
    }
    let count = |count: i32| u32::try_from(count).unwrap_or(0);
    Ok(Service {
        running: count(service.running_count()),
        pending: count(service.pending_count()),
        desired: count(service.desired_count()),
        // What is there from before the latest deployment, and is replaced (ECS API
        // Reference, "Deployment").
        deploying: service.deployments().iter().any(|deployment| deployment.status() == Some("ACTIVE")),
    })
}
