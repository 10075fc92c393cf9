//! What people try first in SQL, by tokio-postgres.

use super::{code, connect, start};

#[tokio::test]
async fn what_is_prepared_in_sql_is_executed_by_name_until_it_is_deallocated() {
    let demo = start().await;
    let client = connect(&demo, 0).await;
    client.batch_execute("CREATE TABLE t (id INT PRIMARY KEY, s TEXT)").await.unwrap();
    client.batch_execute("PREPARE p AS SELECT $1::int + 1; PREPARE i AS INSERT INTO t VALUES ($1, $2)").await.unwrap();
    client.batch_execute("EXECUTE i (1, 'it''s'); EXECUTE i ('2', NULL)").await.unwrap();

    let row = client.query_one("EXECUTE p (20 * 2 + 1)", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 42);
    let stored = client.query("SELECT id FROM t WHERE id = 2 AND s IS NULL", &[]).await.unwrap();
    assert_eq!(stored.len(), 1);

    let cases = [
        ("EXECUTE p", "42601"),
        ("EXECUTE p ('x')", "22P02"),
        ("PREPARE p AS SELECT 1", "42P05"),
        ("PREPARE q AS SELECT * FROM missing", "42P01"),
        ("DEALLOCATE p; EXECUTE p (1)", "26000"),
        ("DISCARD ALL", ""),
        ("EXECUTE i (3, '')", "26000"),
    ];
    for (sql, expected) in cases {
        let told = client.simple_query(sql).await.err();
        assert_eq!(told.as_ref().map_or("", code), expected, "{sql}");
    }
}

#[tokio::test]
async fn a_division_by_zero_fails_the_transaction() {
    let demo = start().await;
    let mut client = connect(&demo, 0).await;
    client.batch_execute("CREATE TABLE t (n INT, x FLOAT); INSERT INTO t VALUES (0, 0), (2, 4)").await.unwrap();
    let row = client.query_one("SELECT 7 / n, 7 % n, x / n, 1 / NULL FROM t WHERE n <> 0", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, f64>(2)), (3, 1, 2.0));
    client
        .simple_query("SELECT CASE WHEN n = 0 THEN 0 ELSE 1 / n END, CASE WHEN true THEN 1 ELSE 1 / 0 END FROM t")
        .await
        .unwrap();

    for sql in ["SELECT 1/0", "SELECT 1 % n FROM t", "SELECT 1.5 / x FROM t", "UPDATE t SET n = 1 / (n - 2)"] {
        let transaction = client.transaction().await.unwrap();
        assert_eq!(code(&transaction.simple_query(sql).await.unwrap_err()), "22012", "{sql}");
        assert_eq!(code(&transaction.simple_query("SELECT 1").await.unwrap_err()), "25P02", "{sql}");
        transaction.rollback().await.unwrap();
    }
    assert_eq!(code(&client.query("SELECT 1 / $1::int", &[&0_i64]).await.unwrap_err()), "22012");
}

#[tokio::test]
async fn who_tries_copy_reads_what_to_use_instead() {
    let demo = start().await;
    let client = connect(&demo, 0).await;

    let error = client.simple_query("COPY t FROM STDIN").await.unwrap_err();

    assert_eq!(code(&error), "0A000");
    assert!(error.as_db_error().unwrap().hint().unwrap().contains("Use INSERT"), "{error:?}");
}
