import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.concurrent.CompletableFuture;
import org.postgresql.PGConnection;

/** The JDBC driver at its default settings. $STEPS names the steps to run; absent, all are. $URL goes before $HOST. */
class Jdbc {
    private static final String ALL = "transaction prepared copy cancel error";

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = connect()) {
            for (String step : System.getenv().getOrDefault("STEPS", ALL).split(" ")) {
                switch (step) {
                    case "transaction" -> transaction(connection);
                    case "prepared" -> prepared(connection);
                    case "copy" -> copy(connection);
                    case "cancel" -> cancel(connection);
                    case "error" -> error(connection);
                    default -> throw new IllegalArgumentException(step);
                }
                System.out.println(step);
            }
        }
    }

    private static Connection connect() throws SQLException {
        if (System.getenv("URL") != null) {
            return DriverManager.getConnection(System.getenv("URL"));
        }
        String address = System.getenv("HOST") + ":" + System.getenv("PORT");
        return DriverManager.getConnection("jdbc:postgresql://" + address + "/defaultdb?user=anyone");
    }

    private static void transaction(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("create table t (n int primary key, s text)");
            connection.setAutoCommit(false);
            statement.execute("insert into t values (1, 'one')");
            connection.commit();
            statement.execute("insert into t values (2, 'two')");
            connection.rollback();
            connection.setAutoCommit(true);
            expect(1, count(statement));
        }
    }

    /** Beyond the fifth run the driver names the statement and asks for binary results. */
    private static void prepared(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("select n + ? from t")) {
            for (int number = 0; number < 10; number++) {
                statement.setInt(1, number);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    expect(number + 1, rows.getInt(1));
                }
            }
        }
    }

    private static void copy(Connection connection) throws Exception {
        var copying = connection.unwrap(PGConnection.class).getCopyAPI();
        var rows = new StringBuilder();
        for (int number = 2; number <= 10_001; number++) {
            rows.append(number).append("\trow\n");
        }
        expect(10_000, copying.copyIn("copy t from stdin", new StringReader(rows.toString())));
        expect(10_001, copying.copyOut("copy t to stdout", new StringWriter()));
    }

    /** Cancels once another connection sees the statement run: a cancel that comes sooner does nothing. */
    private static void cancel(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            var cancelling = CompletableFuture.runAsync(() -> {
                try (Connection other = connect(); Statement asking = other.createStatement()) {
                    asking.execute("do $$ begin for i in 1..1000 loop"
                            + " perform pg_stat_clear_snapshot();"
                            + " if exists (select from pg_stat_activity where query = 'select pg_sleep(60)'"
                            + " and wait_event = 'PgSleep') then return; end if;"
                            + " perform pg_sleep(0.01); end loop; raise 'it never ran'; end $$");
                    statement.cancel();
                } catch (SQLException failed) {
                    throw new IllegalStateException(failed);
                }
            });
            expectError("57014", () -> statement.execute("select pg_sleep(60)"));
            cancelling.get();
        }
    }

    private static void error(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            expectError("23505", () -> statement.execute("insert into t values (1, 'again')"));
        }
    }

    private static long count(Statement statement) throws SQLException {
        try (ResultSet rows = statement.executeQuery("select count(*) from t")) {
            rows.next();
            return rows.getLong(1);
        }
    }

    private interface Failing {
        void run() throws SQLException;
    }

    private static void expectError(String state, Failing failing) {
        try {
            failing.run();
        } catch (SQLException raised) {
            if (state.equals(raised.getSQLState())) {
                return;
            }
            throw new AssertionError("expected " + state + ", got " + raised.getSQLState(), raised);
        }
        throw new AssertionError("expected " + state + ", got no error");
    }

    private static void expect(long expected, long found) {
        if (expected != found) {
            throw new AssertionError("expected " + expected + ", got " + found);
        }
    }
}
