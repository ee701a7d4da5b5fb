// Reads a Jenkinsfile, and prints as JSON what it declares: each call with its arguments, and what its block contains.
// Steps are not run. The variables of the build come as JSON, for the conditions that are written in Groovy.
//
//     groovy tests/jenkinsfile.groovy Jenkinsfile '{"BRANCH_NAME": "main"}'
import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import org.codehaus.groovy.control.CompilerConfiguration

class Call {
  String name
  List arguments = []
  Map named = [:]
  List<Call> children = []
  Map assigned = [:]
  Boolean value
}

class State {
  static Call inside = new Call(name: '')
  static Map variables = [:]
}

abstract class Recorder extends Script {
  def methodMissing(String name, Object given) {
    def parent = State.inside
    def call = new Call(name: name)
    for (Object one : (Object[]) given) {
      if (one instanceof Closure && name == 'expression') {
        call.value = one.call() as boolean
      } else if (one instanceof Closure) {
        State.inside = call
        one.call()
        State.inside = parent
      } else if (one instanceof Map) {
        call.named.putAll(one)
      } else {
        call.arguments.add(one)
      }
    }
    // A call that is an argument is not a statement.
    for (argument in call.arguments.flatten()) {
      parent.children.removeAll { it.is(argument) }
    }
    parent.children.add(call)
    return call
  }

  Object getProperty(String name) {
    return name == 'env' ? State.variables : super.getProperty(name)
  }

  void setProperty(String name, Object value) {
    State.inside.assigned[name] = value
  }
}

State.variables = new JsonSlurper().parseText(args[1])
def configuration = new CompilerConfiguration()
configuration.scriptBaseClass = Recorder.name
new GroovyShell(getClass().classLoader, new Binding(), configuration).parse(new File(args[0])).run()
println JsonOutput.toJson(State.inside)
