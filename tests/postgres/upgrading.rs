//! Upgrades of the schema: they make of each version what a new database has.

use crate::cluster;
use crate::nodes::{by_hand, count, database, open};

/// The schemas of older releases that were for PostgreSQL, the first of version 5.
const OLDER: &[&str] = &[include_str!("../fixtures/postgres_v5.sql"), include_str!("../fixtures/postgres_v6.sql")];

/// Every column, index and constraint, a line each.
fn objects_in(url: &str) -> Vec<String> {
    let list = "SELECT concat_ws(' ', table_name, column_name, data_type, collation_name, is_nullable, column_default) \
         FROM information_schema.columns WHERE table_schema = current_schema() \
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() \
         UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint \
         WHERE connamespace = current_schema()::regnamespace \
         UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1";
    let rows = cluster::on(url, async |client| client.query(list, &[]).await).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn the_upgrades_make_of_each_version_what_a_new_database_has_and_keep_its_rows() {
    let (Some(new), Some(_)) = (database(), database()) else { return };
    drop(open(&new));
    for (version, schema) in (5..).zip(OLDER) {
        let old = database().unwrap();
        by_hand(&old, schema);
        by_hand(&old, &format!("INSERT INTO schema_version VALUES ({version}, {version})"));
        by_hand(
            &old,
            "INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login) \
             VALUES ('Ana', 'ana', '!', 0, 0, 0, 0)",
        );
        drop(open(&old));
        assert_eq!(objects_in(&old), objects_in(&new), "{version}");
        assert_eq!(count(&old, "SELECT count(*) FROM users WHERE imported_hash_work IS NULL"), 1, "{version}");
    }
}
