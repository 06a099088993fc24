// The scenarios with PostgreSQL's JDBC driver.

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.net.SocketAddress;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.time.OffsetDateTime;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.SocketFactory;
import org.postgresql.util.PGobject;

public class Jdbc {
    static final String PURCHASE = "SELECT flashsale.purchase_item(?, ?, ?, ?, ?)";
    static final String GET_ORDER = "SELECT flashsale.get_order(?)";

    interface Scenario {
        void run(Connection connection) throws Exception;
    }

    /** Without prepareThreshold=0 the driver prepares a statement when it is executed for the fifth time. */
    static Connection connect() throws SQLException {
        Map<String, String> environment = System.getenv();
        String host = environment.get("PGHOST"), port = environment.get("PGPORT");
        boolean isFolder = host.startsWith("/");
        String url = "jdbc:postgresql://" + (isFolder ? "localhost" : host + ":" + port) + "/"
            + environment.get("PGDATABASE") + "?prepareThreshold=0&sslmode=disable&gssEncMode=disable"
            + (isFolder ? "&socketFactory=Jdbc$UnixSockets&socketFactoryArg=" + host + "/.s.PGSQL." + port : "");
        return DriverManager.getConnection(url, environment.get("PGUSER"), environment.get("PGPASSWORD"));
    }

    /** The first column of the only row. */
    static String ask(Connection connection, String sql, Object... parameters) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int n = 0; n < parameters.length; n++) {
                if (parameters[n] == null) {
                    statement.setNull(n + 1, Types.VARCHAR);
                } else {
                    statement.setObject(n + 1, parameters[n]);
                }
            }
            try (ResultSet result = statement.executeQuery()) {
                result.next();
                return result.getString(1);
            }
        }
    }

    static String purchase(Connection connection, long item, Object user) throws SQLException {
        return ask(connection, PURCHASE, item, user, 1L, null, null);
    }

    static long newItem(Connection connection, long units) throws SQLException {
        String create = "SELECT flashsale.create_item(?, unit_price => 500, currency => 'EUR')";
        return Long.parseLong(ask(connection, create, units));
    }

    static void execute(Connection connection, String sql) throws SQLException {
        connection.createStatement().execute(sql);
    }

    static void expectFree(Connection connection, long item, int units) throws SQLException {
        expect(ask(connection, "SELECT flashsale.item_availability(?)", item), "remaining_inventory", units);
    }

    /** A field of an answer, as text. A program would use a library for JSON. */
    static String field(String answer, String name) {
        Matcher found = Pattern.compile("\"" + name + "\": \"?([^\",}]*)").matcher(answer);
        return found.find() ? found.group(1) : "missing";
    }

    static void expect(String answer, String name, Object value) {
        check(field(answer, name).equals(value.toString()), name + " is not " + value + " in " + answer);
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) throw new AssertionError(otherwise);
    }

    static SQLException expectError(String state, Scenario scenario, Connection connection) throws Exception {
        try {
            scenario.run(connection);
        } catch (SQLException error) {
            check(state.equals(error.getSQLState()), error.getSQLState() + ": " + error.getMessage());
            return error;
        }
        throw new AssertionError("no error " + state);
    }

    static void purchase(Connection connection) throws Exception {
        long item = newItem(connection, 10);
        String answer = purchase(connection, item, "alice");
        expect(answer, "success", true);
        expect(answer, "status", "reserved");
        expectFree(connection, item, 9);
    }

    static void key(Connection connection) throws Exception {
        long item = newItem(connection, 10);
        String first = ask(connection, PURCHASE, item, "alice", 1L, "basket", null);
        String again = ask(connection, PURCHASE, item, "alice", 1L, "basket", null);
        expect(first, "replayed", false);
        expect(again, "replayed", true);
        expect(again, "order_id", field(first, "order_id"));
        expectFree(connection, item, 9);
    }

    static void busy(Connection connection) throws Exception {
        long item = newItem(connection, 10);
        try (Connection other = connect()) {
            other.setAutoCommit(false);
            purchase(other, item, "bob");
            String refused = purchase(connection, item, "alice");
            expect(refused, "success", false);
            expect(refused, "reason", "busy");
            expect(refused, "retryable", true);
            check(Integer.parseInt(field(refused, "retry_after_ms")) > 0, refused);
            other.commit();
        }
        expect(purchase(connection, item, "alice"), "success", true);
    }

    static void soldOut(Connection connection) throws Exception {
        long item = newItem(connection, 1);
        expect(purchase(connection, item, "alice"), "success", true);
        String refused = purchase(connection, item, "bob");
        expect(refused, "reason", "out_of_stock");
        expect(refused, "retryable", false);
        expect(refused, "remaining_inventory", 0);
    }

    static void payment(Connection connection) throws Exception {
        String reserved = ask(connection, PURCHASE, newItem(connection, 10), "alice", 2L, null, null);
        String ref = field(reserved, "order_ref");
        expect(ask(connection, "SELECT flashsale.begin_payment(?)", ref), "status", "paying");
        String confirm = "SELECT flashsale.confirm_order(?, ?, ?, ?)";
        expect(ask(connection, confirm, ref, "charge " + ref, 1000L, "EUR"), "status", "confirmed");
        String order = ask(connection, GET_ORDER, ref);
        expect(order, "total", 1000);
        expect(order, "payment_ref", "charge " + ref);
    }

    static void ref(Connection connection) throws Exception {
        String answer = purchase(connection, newItem(connection, 10), "alice");
        String ref = field(answer, "order_ref");
        long id = Long.parseLong(field(answer, "order_id"));
        expect(ask(connection, GET_ORDER, ref), "order_id", id);
        expect(ask(connection, GET_ORDER, id), "order_ref", ref);
        expect(ask(connection, GET_ORDER, id + "-0000000000"), "reason", "order_not_found");
        expect(ask(connection, "SELECT flashsale.cancel_order(?)", id), "restored", 1);
    }

    static void batch(Connection connection) throws Exception {
        long item = newItem(connection, 2);
        PGobject requests = new PGobject();
        requests.setType("jsonb");
        requests.setValue("[{\"item_id\": %1$d, \"user_id\": \"alice\"}, {\"item_id\": %1$d, \"user_id\": 42},"
            .formatted(item) + "{\"item_id\": %d, \"user_id\": \"carol\"}]".formatted(item));
        String answers = ask(connection, "SELECT flashsale.purchase_batch(?)", requests);
        String successes = Pattern.compile("\"success\": (true|false)").matcher(answers).results()
            .map(found -> found.group(1)).toList().toString();
        check(successes.equals("[true, true, false]"), answers);
    }

    static void error(Connection connection) throws Exception {
        long item = newItem(connection, 10);
        SQLException error = expectError("22023", c -> ask(c, PURCHASE, item, "alice", 0L, null, null), connection);
        check(error.getMessage().startsWith("ERROR: quantity is 0: it must be at least 1"), error.getMessage());
        expect(purchase(connection, item, "alice"), "success", true);
    }

    static void transaction(Connection connection) throws Exception {
        long item = newItem(connection, 10);
        connection.setAutoCommit(false);
        expect(ask(connection, PURCHASE, item, "alice", 11L, null, null), "reason", "out_of_stock");
        expect(purchase(connection, item, "alice"), "success", true);
        connection.rollback();
        connection.setAutoCommit(true);
        expectFree(connection, item, 10);
    }

    static void grouped(Connection connection) throws Exception {
        long item = newItem(connection, 10);
        Scenario purchase = c -> expect(ask(c, PURCHASE, item, "alice", 1L, null, "grouped"), "status", "reserved");
        purchase.run(connection);
        connection.setAutoCommit(false);
        expectError("25001", purchase, connection);
        connection.rollback();
        connection.setAutoCommit(true);
        expectFree(connection, item, 9);
    }

    static void serialization(Connection connection) throws Exception {
        long item = newItem(connection, 10);
        try (Connection other = connect()) {
            // setTransactionIsolation would change the session, which a pooler lends to others.
            String isolation = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
            other.setAutoCommit(false);
            execute(other, isolation);
            expectFree(other, item, 10);
            purchase(connection, item, "bob");
            expectError("40001", c -> purchase(c, item, "alice"), other);
            other.rollback();
            execute(other, isolation);
            expect(purchase(other, item, "alice"), "success", true);
            other.commit();
        }
        expectFree(connection, item, 8);
    }

    static void repeated(Connection connection) throws Exception {
        long item = newItem(connection, 10);
        try (PreparedStatement statement = connection.prepareStatement(PURCHASE); Connection other = connect()) {
            statement.setLong(1, item);
            statement.setString(2, "alice");
            statement.setLong(3, 1);
            statement.setString(4, "basket");
            statement.setNull(5, Types.VARCHAR);
            for (int n = 0; n < 20; n++) {
                if (n == 10) { // the next ones go over another connection of a pooler
                    other.setAutoCommit(false);
                    execute(other, "SELECT");
                }
                try (ResultSet result = statement.executeQuery()) {
                    result.next();
                    expect(result.getString(1), "success", true);
                }
            }
            other.commit();
        }
    }

    static void types(Connection connection) throws Exception {
        long item = newItem(connection, 10);
        try (PreparedStatement statement = connection.prepareStatement(PURCHASE)) {
            statement.setLong(1, item);
            statement.setInt(2, 42);
            statement.setInt(3, 1);
            statement.setNull(4, Types.VARCHAR);
            statement.setNull(5, Types.VARCHAR);
            try (ResultSet result = statement.executeQuery()) {
                result.next();
                PGobject jsonb = (PGobject) result.getObject(1);
                check(jsonb.getType().equals("jsonb"), jsonb.getType());
                OffsetDateTime.parse(field(jsonb.getValue(), "expires_at"));
                String order = ask(connection, GET_ORDER, field(jsonb.getValue(), "order_ref"));
                expect(order, "user_id", "42");
                expect(order, "paying_at", "null");
            }
        }
        UUID uuid = UUID.fromString("6b29fc40-ca47-1067-b31d-00dd010662da");
        expect(purchase(connection, item, uuid), "success", true);
        expect(ask(connection, "SELECT flashsale.user_orders(?)", uuid.toString()), "item_id", item);
        try (ResultSet result = connection.createStatement().executeQuery("SELECT flashsale.create_item(1)")) {
            result.next();
            check(result.getObject(1) instanceof Long, "a bigint is no Long");
        }
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Scenario> scenarios = new LinkedHashMap<>();
        scenarios.put("purchase", Jdbc::purchase);
        scenarios.put("key", Jdbc::key);
        scenarios.put("busy", Jdbc::busy);
        scenarios.put("sold-out", Jdbc::soldOut);
        scenarios.put("payment", Jdbc::payment);
        scenarios.put("ref", Jdbc::ref);
        scenarios.put("batch", Jdbc::batch);
        scenarios.put("error", Jdbc::error);
        scenarios.put("transaction", Jdbc::transaction);
        scenarios.put("grouped", Jdbc::grouped);
        scenarios.put("serialization", Jdbc::serialization);
        scenarios.put("repeated", Jdbc::repeated);
        scenarios.put("types", Jdbc::types);
        for (Map.Entry<String, Scenario> scenario : scenarios.entrySet()) {
            try (Connection connection = connect()) {
                scenario.getValue().run(connection);
                System.out.println("ok " + scenario.getKey());
            } catch (Exception | AssertionError error) {
                System.out.println("not ok " + scenario.getKey() + ":");
                error.printStackTrace(System.out);
            }
        }
    }

    /** Connects to the socket in a folder. */
    public static class UnixSockets extends SocketFactory {
        private final String path;

        public UnixSockets(String path) {
            this.path = path;
        }

        @Override
        public Socket createSocket() {
            return new UnixSocket(path);
        }

        @Override
        public Socket createSocket(String host, int port) {
            return createSocket();
        }

        @Override
        public Socket createSocket(String host, int port, InetAddress localHost, int localPort) {
            return createSocket();
        }

        @Override
        public Socket createSocket(InetAddress host, int port) {
            return createSocket();
        }

        @Override
        public Socket createSocket(InetAddress host, int port, InetAddress localHost, int localPort) {
            return createSocket();
        }
    }

    static class UnixSocket extends Socket {
        private final String path;
        private SocketChannel channel;

        UnixSocket(String path) {
            this.path = path;
        }

        @Override
        public void connect(SocketAddress ignored, int timeout) throws IOException {
            channel = SocketChannel.open(StandardProtocolFamily.UNIX);
            channel.connect(UnixDomainSocketAddress.of(path));
        }

        @Override
        public boolean isConnected() {
            return channel != null;
        }

        @Override
        public InputStream getInputStream() {
            return Channels.newInputStream(channel);
        }

        @Override
        public OutputStream getOutputStream() {
            return Channels.newOutputStream(channel);
        }

        @Override
        public void setTcpNoDelay(boolean on) {}

        @Override
        public void close() throws IOException {
            channel.close();
        }
    }
}
