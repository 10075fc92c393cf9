//! The cluster that settings are made for: found, fit to be connected to, and told to whoever asked.

use crate::{
    cloud::{self, Cloud, Cluster, ClusterState, Known, Plan, Provider, known},
    commands::{CommandError, ca::Fetched, note},
    diagnostics::printable,
    settings::{EndpointKind, Name},
};

/// What the Cloud says of it.
pub(super) struct Found {
    /// As the settings call it.
    pub(super) name: Name,
    pub(super) id: String,
    pub(super) regions: Vec<Region>,
    pub(super) users: Known<Vec<String>>,
    pub(super) databases: Known<Vec<String>>,
    pub(super) ca: Fetched,
    /// The cluster in one line.
    summary: String,
    has_psc: bool,
}

/// A region, by the names of its ways in.
pub(super) struct Region {
    /// As SQL shows it.
    pub(super) name: String,
    pub(super) public: Option<String>,
    pub(super) internal: Option<String>,
    pub(super) psc: Option<String>,
}

impl Region {
    /// The host of a way in, if there is one.
    pub(super) fn host(&self, kind: EndpointKind) -> Option<&str> {
        match kind {
            EndpointKind::Public => self.public.as_deref(),
            EndpointKind::Internal => self.internal.as_deref(),
            EndpointKind::Psc => self.psc.as_deref(),
            EndpointKind::Custom => None,
        }
    }
}

impl Found {
    /// Asks for all of it.
    pub(super) async fn ask(cloud: &Cloud, name_or_id: &str) -> Result<Self, CommandError> {
        let mut cluster = cloud.find(name_or_id).await?;
        let count = cluster.regions.len();
        if count > REGIONS_MAX {
            note(&format!("the Cloud names {count} regions of this cluster; only the first {REGIONS_MAX} are taken"));
            cluster.regions.truncate(REGIONS_MAX);
        }
        judge(&cluster)?;
        let ca = Fetched::of(cloud, &cluster.id).await?;
        let users = known(cloud.users(&cluster.id).await)?;
        let users = names(users, "user", |user| user.name);
        let databases = known(cloud.databases(&cluster.id).await)?;
        let databases = names(databases, "database", |database| database.name);
        Ok(Self {
            name: Name::new(&cluster.name).or_else(|| Name::new("cluster")).ok_or_else(no_name)?,
            summary: summary(&cluster),
            has_psc: cluster.cloud_provider == Some(Provider::Gcp),
            regions: regions(&cluster),
            id: cluster.id,
            users,
            databases,
            ca,
        })
    }

    /// Cluster and ways in, as a table.
    pub(super) fn told(&self) -> String {
        let mut rows = vec![["region", "path", "host"].map(str::to_owned)];
        for region in &self.regions {
            let mut ways = vec![
                ("public", region.public.clone().unwrap_or_else(|| NONE.to_owned())),
                ("internal", region.internal.clone().unwrap_or_else(|| NONE.to_owned())),
            ];
            match &region.psc {
                Some(host) => ways.push(("psc", format!("ENDPOINT_NAME.{host}"))),
                None if self.has_psc => ways.push(("psc", NO_SERVICE.to_owned())),
                None => {}
            }
            for (index, (path, host)) in ways.into_iter().enumerate() {
                let name = if index == 0 { printable(&region.name) } else { String::new() };
                rows.push([name, path.to_owned(), printable(&host)]);
            }
        }
        let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max();
        let widths = [0, 1].map(|column| width(column).unwrap_or_default());
        let lines = rows.iter().map(|[region, path, host]| {
            let [of_region, of_path] = widths;
            format!("  {region:of_region$}  {path:of_path$}  {host}\n")
        });
        format!("{}\n{}", self.summary, lines.collect::<String>())
    }
}

/// Refuses what cannot be connected to, and notes what the operator should know.
fn judge(cluster: &Cluster) -> Result<(), CommandError> {
    let remarks = cloud::remarks(cluster);
    let told = |remarks: &str| format!("cluster \"{}\": {remarks}; nothing was written", printable(&cluster.name));
    if matches!(cluster.plan, Some(Plan::Basic | Plan::Standard)) {
        return Err(CommandError::Said(2, told(&remarks.join("; "))));
    }
    // A locked one serves: it is locked against changes.
    let is_unfit =
        |state| matches!(state, &ClusterState::Creating | &ClusterState::CreationFailed | &ClusterState::Deleted);
    if cluster.state.as_ref().is_some_and(is_unfit) {
        return Err(CommandError::Said(1, told(&remarks.join("; "))));
    }
    if cluster.regions.is_empty() {
        return Err(CommandError::Said(1, told("it has no region yet; try again in some minutes")));
    }
    remarks.iter().for_each(|remark| note(remark));
    Ok(())
}

fn summary(cluster: &Cluster) -> String {
    let word = |text: Option<String>| text.map_or_else(|| "unknown".to_owned(), |text| printable(&text));
    let plan = word(cluster.plan.as_ref().map(ToString::to_string));
    let provider = word(cluster.cloud_provider.as_ref().map(ToString::to_string));
    let version = word(cluster.cockroach_version.clone());
    format!("cluster {} ({}): {plan} on {provider}, {version}", printable(&cluster.name), printable(&cluster.id))
}

fn regions(cluster: &Cluster) -> Vec<Region> {
    let region = |region: &cloud::Region| Region {
        name: cluster.sql_region(&region.name),
        public: region.sql_dns.clone(),
        internal: region.internal_dns.clone(),
        psc: region.private_endpoint_dns.clone(),
    };
    cluster.regions.iter().map(region).collect()
}

fn names<T>(list: Known<Vec<T>>, what: &str, name: impl FnMut(T) -> String) -> Known<Vec<String>> {
    match list {
        Known::Is(list) => Known::Is(list.into_iter().map(name).collect()),
        Known::Unknown(why) => {
            note(&format!("whether there is a {what} cannot be looked up: {why}"));
            Known::Unknown(why)
        }
    }
}

fn no_name() -> CommandError {
    CommandError::Said(1, "the cluster has no name".to_owned())
}

/// More than all clouds have; each is held against each.
const REGIONS_MAX: usize = 100;
const NONE: &str = "none";
const NO_SERVICE: &str = "none: its service is not created yet (crdb-proxy private-endpoint services)";

#[cfg(test)]
impl Found {
    /// A cluster `prod` of two regions on GCP, the first of which has a Private Service Connect service.
    pub(super) fn example() -> Self {
        let region = |name: &str, psc: Option<&str>| Region {
            name: format!("gcp-{name}"),
            public: Some(format!("prod-abc.gcp-{name}.cockroachlabs.cloud")),
            internal: Some(format!("internal-prod-abc.gcp-{name}.cockroachlabs.cloud")),
            psc: psc.map(str::to_owned),
        };
        Self {
            name: Name::new("prod").unwrap(),
            id: "01234567-89ab-cdef-0123-456789abcdef".to_owned(),
            regions: vec![
                region("us-east1", Some("private-prod-abc.gcp-us-east1.cockroachlabs.cloud")),
                region("us-west2", None),
            ],
            users: Known::Is(vec!["app".to_owned(), "root".to_owned()]),
            databases: Known::Unknown("the role does not suffice".to_owned()),
            ca: Fetched::of_nobody(),
            summary: "cluster prod".to_owned(),
            has_psc: true,
        }
    }
}
