import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Properties;

/** What the JDBC driver makes of URLs, one a line, each as the value in a properties file; a line of base64 for each. */
class JdbcParse {
    public static void main(String[] arguments) throws Exception {
        String urls = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
        for (String line : urls.split("\n")) {
            Properties file = new Properties();
            file.load(new StringReader("url=" + line + "\n"));
            Properties parsed = org.postgresql.Driver.parseURL(file.getProperty("url"), new Properties());
            StringBuilder told = new StringBuilder();
            for (String name : new String[] {"PGHOST", "PGPORT", "user", "PGDBNAME", "sslmode"}) {
                byte[] value = parsed.getProperty(name).getBytes(StandardCharsets.UTF_8);
                told.append(Base64.getEncoder().encodeToString(value)).append(' ');
            }
            System.out.println(told.toString().trim());
        }
    }
}
